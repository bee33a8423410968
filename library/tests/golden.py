"""Golden digests: what reference trainings end with, kept in golden.json, so that no change of their bits goes unseen.

`python -m tests.golden` (in library/) trains and compares; with `--renew` it writes golden.json anew, which it refuses
where digests have changed and the library's contract has not been raised. All are trained with determinism=portable,
so the digests are those of every x86-64 processor with AVX2, for the PyTorch that golden.json names. A reference
training that is itself changed gets another name: what golden.json does not know is added without a new contract.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from .project import compose, module
from .trainings import prepare

PATH = Path(__file__).with_name("golden.json")
CHANGELOG = PATH.parents[1] / "CHANGELOG.md"
RENEW = "`python -m tests.golden --renew` in library/"

Digests = dict[str, dict[str, str]]  # training: {weights, metrics, trace: sha256}

FEW = (
    "snapshot=false",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    *(f"trainer.limit_{name}_batches={count}" for name, count in (("train", 4), ("val", 1), ("test", 1))),
    "trainer.enable_progress_bar=false",
    "callbacks.best=null",
    "callbacks.trace.dense=0",
    "callbacks.trace.every_n_steps=1",
    "callbacks.trace.operators=[]",
    "data.module.shift=0",
    "model.network.dropout=0",
)
DROPOUT = "model.network.dropout=0.3"
ACCUMULATION = "+trainer.accumulate_grad_batches=3"
BUSY = ("model._target_=tests.busy.BusyClassifier", "data.module._target_=tests.busy.BusyDataModule")
IN_ORDER = "data.module._target_=tests.busy.InOrderDataModule"
ANY = "data.module._target_=tests.programs.AnyDataModule"
SHARED = ("model._target_=tests.busy.Shared", "data.module._target_=tests.busy.BusyDataModule")
STOP = "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/loss,patience:1}"
TRAININGS: dict[str, tuple[str, ...]] = {
    "cnn": (),
    "mlp": ("model=mlp", "model.optimizer._target_=torch.optim.AdamW"),
    "transformer": (
        "model=mlp",
        "model.network._target_=tests.networks.Transformer",
        "model.network.hidden=[32,64]",
        DROPOUT,
    ),
    "dropout and augmentation": (DROPOUT, "data.module.shift=1"),
    "samples read one by one": ("data.module._target_=tests.busy.SeededPlainDataModule",),
    "an ordinary loader": ("data.module._target_=tests.busy.PlainDataModule",),
    "a weighted sampler": (ANY, "+data.module.loader=weighted"),
    "a stream": (ANY, "+data.module.loader=stream", "model._target_=tests.programs.Forgetful"),
    "two loaders": (ANY, "+data.module.loader=two"),
    "in order": (IN_ORDER, DROPOUT),
    "in order, accumulated": (IN_ORDER, DROPOUT, ACCUMULATION),
    "accumulated": (ACCUMULATION, DROPOUT),
    "bf16-mixed": ("+trainer.precision=bf16-mixed",),
    "2 shards": (*SHARED, "determinism.shards=2"),
    "4 shards, batches of one sample": (
        *SHARED,
        "determinism.shards=4",
        "data.module.batch_size=314",
        "trainer.limit_train_batches=1.0",
    ),
    "2 shards, accumulated": ("determinism.shards=2", ACCUMULATION, DROPOUT),
    "stopped early": (
        "model.optimizer.lr=0.1",
        "trainer.max_epochs=9",
        STOP,
        "callbacks.best={monitor:val/loss,mode:min,_target_:samebits.BestWeights}",
    ),
    "a schedule of steps": ("model._target_=tests.busy.StepwiseClassifier", "model.optimizer.lr=0.01"),
    "optimised by itself": ("model._target_=tests.busy.ManualClassifier",),
    "clipped sgd": (
        "model.optimizer._target_=torch.optim.SGD",
        "model.optimizer.lr=0.1",
        "+model.optimizer.momentum=0.9",
        "+trainer.gradient_clip_val=0.5",
    ),
    "cut off and resumed": (*BUSY, ACCUMULATION, "trainer.val_check_interval=2", "callbacks.resume.every_n_steps=1"),
}
CUT_OFF = {"cut off and resumed": ("on_train_batch_start", 6)}


def train_all(workspace: Path, folder: Path, names: Iterable[str] = tuple(TRAININGS)) -> Digests:
    """Train all of them in this process, each in a folder of its own, and return their digests."""
    from .cutting import Killer, trainings  # here, because PyTorch must find its environment set

    train = trainings(lambda *words: compose([f'paths.root="{workspace}"', *FEW, *words]), folder)
    found = {}
    for name in names:
        if name in CUT_OFF:
            run, _ = train(name, Killer(*CUT_OFF[name]), overrides=TRAININGS[name])
            assert not (run / "metrics.json").exists()
        run, _ = train(name, overrides=TRAININGS[name])
        found[name] = digests(run)
    return found


def digests(run: Path) -> dict[str, str]:
    """Return the sha256 of a run's weights, metrics and traced steps; how trace.jsonl is written does not count."""
    outputs = json.loads((run / "record.json").read_text())["outputs"]
    rows = map(json.loads, (run / "trace.jsonl").read_text().splitlines())
    names = ("step", "batch", "rng", "loss", "grad", "weights")
    steps = [{name: row.get(name) for name in names} for row in rows if "evaluation" not in row]
    return {"weights": outputs["weights"], "metrics": _sha256(outputs["metrics"]), "trace": _sha256(steps)}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def changed(found: Digests, known: Digests) -> list[str]:
    """Name the trainings that golden.json knows and that end otherwise now, with what differs."""
    both = {name: (found[name], known[name]) for name in found if name in known}
    return [
        f"{name} ({', '.join(each for each in now if now[each] != before.get(each))})"
        for name, (now, before) in both.items()
        if now != before
    ]


def problems(found: Digests, golden: dict[str, Any]) -> Iterable[str]:
    """Say what is not as golden.json has it, and what mends it."""
    contract, torch = _contract(), module("torch").__version__
    different = changed(found, golden["trainings"])
    if golden["torch"] != torch:
        yield f"golden.json is of torch {golden['torch']}, and this is {torch}: with the library unchanged, {RENEW}"
    elif different and contract <= golden["contract"]:
        yield (
            f"the bits of {len(different)} reference trainings have changed: {'; '.join(different)}. "
            "Undo the change, or raise CONTRACT in src/samebits/engine/inputs.py (which renames every run), say in"
            f" CHANGELOG.md what changes, and renew the digests: {RENEW}"
        )
    elif golden["contract"] != contract:
        yield f"CONTRACT is {contract}, and golden.json is of contract {golden['contract']}: {RENEW}"
    if set(found) != set(golden["trainings"]):
        yield f"golden.json lacks trainings, or has others ({set(found) ^ set(golden['trainings'])}): {RENEW}"
    if not re.search(rf"contract {contract}\b", CHANGELOG.read_text(encoding="utf-8")):
        yield f"CHANGELOG.md does not say what contract {contract} changes, under a title 'x.y.z · contract N'"


def renew(found: Digests) -> str:
    """Write golden.json anew; return why not, or an empty text."""
    if PATH.exists():
        golden = json.loads(PATH.read_text())
        refused = [each for each in problems(found, golden) if each.startswith(("the bits", "CHANGELOG"))]
        if refused:
            return " ".join(refused)
    content = {"contract": _contract(), "torch": module("torch").__version__, "trainings": found}
    PATH.write_text(json.dumps(content, indent=2) + "\n")
    return ""


def _contract() -> int:
    return int(module("samebits.engine.inputs").CONTRACT)


def main(arguments: list[str] | None = None, train: Callable[[Path, Path], Digests] = train_all) -> int:
    """Compare, or write anew; return 1 where digests differ, 2 where they must not be written."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__.split("\n")[0])
    parser.add_argument("--renew", action="store_true", help="write golden.json anew")
    options = parser.parse_args(arguments)
    module("samebits.engine.determinism").before_torch(compose().determinism)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        found = train(prepare(Path(folder) / "workspace"), Path(folder) / "runs")
    if options.renew:
        refused = renew(found)
        print(f"error: {refused}" if refused else f"{PATH} holds {len(found)} trainings.")
        return 2 if refused else 0
    wrong = list(problems(found, json.loads(PATH.read_text())))
    print("\n".join(wrong) or f"{len(found)} trainings, each with its golden digests.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
