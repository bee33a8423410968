"""`samebits invariance`: train some thirty times with what must not matter changed, and compare the weights.

Every training is a command of its own. What must matter is changed as well, to see that the comparison can fail. A case
that the project has no settings for is passed over.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ..engine.command_line import explain
from ..engine.config import compose, quote
from ..engine.errors import UserError
from ..engine.project import project
from ..fetch import make_available
from .rerun import LAST_LINES

# Without `best`, the last weights are kept: which ones are best does depend on when they are validated
TRAINING = (
    *("trainer.max_epochs=2", "++trainer.check_val_every_n_epoch=1"),
    *("++callbacks.best=null", "run_name=invariance"),
)
WORKERS = "data.module.num_workers=2"
ALONE = "nothing changed"
NATIVE = "native, 1 thread"
SHARDS = "4 shards"
WITHOUT_EFFECT = (
    *("trainer.num_sanity_val_steps=2", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1"),
    *("logger=tensorboard", "logger=mlflow", "logger=wandb", "callbacks.resume.every_n_steps=1"),
)
SEVERAL = ("determinism.shards=4", "trainer=ddp")
NOT_INSTALLED = 2  # exit status where a package is missing: a user's mistake


@dataclass(frozen=True)
class Case:
    """One way to start the same training."""

    name: str
    overrides: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None  # to start in; by default the project's
    umask: int = -1
    cores: int = 0  # visible to the process; 0 are all
    terminal: bool = False  # draw the progress bar
    neighbours: int = 0  # processes that keep the cores busy
    kill: bool = False  # after the first checkpoint, and start it again
    like: str = ALONE  # the weights must be those of this case
    unlike: str = ""  # a control: the weights must differ from those of this case


CASES = [
    Case(ALONE),
    *(Case(f"{count} workers", (f"data.module.num_workers={count}",)) for count in (1, 2, 4)),
    Case("2 workers, not persistent", (WORKERS, "data.module.persistent_workers=false")),
    *(Case(f"2 workers, prefetch {n}", (WORKERS, f"data.module.prefetch_factor={n}")) for n in (1, 4)),
    Case("validation twice an epoch", ("trainer.val_check_interval=0.5",)),
    Case("validation never", ("++trainer.check_val_every_n_epoch=1000",)),
    *(Case(override, (override,)) for override in WITHOUT_EFFECT),
    Case("progress bar in a terminal", terminal=True),
    Case("another working directory", folder=Path("/")),
    Case("another time zone", environment={"TZ": "Asia/Kathmandu"}),
    Case("another locale", environment={"LC_ALL": "C", "LANG": "tr_TR.UTF-8"}),
    *(Case(f"PYTHONHASHSEED={seed}", environment={"PYTHONHASHSEED": seed}) for seed in ("0", "123")),
    Case("umask 077", umask=0o077),
    Case("1 core", cores=1),
    Case("2 cores", cores=2),
    Case("busy neighbours", neighbours=2 * (os.cpu_count() or 1)),
    Case("killed, and started again", ("callbacks.resume.every_n_steps=1",), kill=True),
    Case("OMP_NUM_THREADS=3 before", environment={"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}),
    Case("another seed", ("seed=271828",), unlike=ALONE),
    Case(NATIVE, ("determinism=native", "determinism.threads=1"), unlike=ALONE),
    Case("native, 2 threads", ("determinism=native", "determinism.threads=2"), unlike=NATIVE),
    Case(
        "native, other arithmetic set before",
        ("determinism=native",),
        environment={"ATEN_CPU_CAPABILITY": "default", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "MKL_CBWR": "COMPATIBLE"},
        like=NATIVE,
    ),
    Case(SHARDS, ("determinism.shards=4",), unlike=ALONE),
    *(Case(f"4 shards, {count} processes", (*SEVERAL, f"trainer.devices={count}"), like=SHARDS) for count in (2, 4)),
    Case("4 shards, 2 processes, killed", (*SEVERAL, "callbacks.resume.every_n_steps=1"), like=SHARDS, kill=True),
]


def result(case: Case, folder: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """Train in `folder`, and return the outputs in the record; None where a package is missing, a UserError else."""
    root, source = project().root, project().source
    cores = sorted(os.sched_getaffinity(0))[: case.cores] if case.cores else []
    command = [sys.executable, "-m", f"{project().name}.train", *TRAINING, *overrides, *case.overrides]
    command.append(f"paths.models={quote(str(folder))}")
    paths = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths} | case.environment
    with ExitStack() as stack:
        for _ in range(case.neighbours):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        terminal = pty.openpty() if case.terminal else ()
        for end in terminal:
            stack.callback(os.close, end)
        if case.kill:
            first = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL)
            while first.poll() is None and not list(folder.glob("*/checkpoints/*.ckpt")):
                time.sleep(0.005)
            first.kill()
            if first.wait() == 0:
                raise UserError(f"{case.name}: it ended before it could be killed: add trainer.max_epochs=20.")
        done = subprocess.run(
            command,
            cwd=case.folder or root,
            env=environment,
            umask=case.umask,
            stdout=subprocess.PIPE,
            stderr=terminal[1] if terminal else subprocess.STDOUT,
            text=True,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )
    if done.returncode == NOT_INSTALLED and "make setup EXTRAS=" in done.stdout:
        return None
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise UserError(f"with {case.name}, the training fails; its last lines were:\n{last}")
    (record,) = folder.glob("*/record.json")
    return dict(json.loads(record.read_text())["outputs"])


def possible(case: Case, overrides: tuple[str, ...]) -> bool:
    """Whether the project has the settings that the case changes, and this system lets one choose its cores."""
    try:
        compose([*TRAINING, *overrides, *case.overrides])
    except (HydraException, OmegaConfBaseException):
        return False
    return not case.cores or hasattr(os, "sched_setaffinity")


def main(arguments: argparse.Namespace) -> None:
    """Print a table; the exit status is 1 where something is not as it must be."""
    overrides = tuple(arguments.settings)
    try:
        make_available(compose([*TRAINING, *overrides]))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    cases = [case for case in CASES if possible(case, overrides)]
    outputs: dict[str, dict[str, Any] | None] = {}
    wrong, begin = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        trained = pool.map(lambda case: result(case, Path(folder) / case.name, overrides), cases)
        try:
            for case, outcome in zip(cases, trained, strict=True):
                outputs[case.name] = outcome
                verdict = _judge(case, outputs)
                wrong += verdict.startswith("WRONG")
                print(f"{case.name:<36}{outcome['weights'][:12] if outcome else '':<14}{verdict}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for case in CASES:
        if case not in cases:
            print(f"{case.name:<36}{'':<14}not tried: the project has no such setting")
    print(f"{len(cases)} trainings in {time.monotonic() - begin:.0f} s, {wrong} not as they must be")
    raise SystemExit(int(wrong > 0))


def _judge(case: Case, outputs: dict[str, dict[str, Any] | None]) -> str:
    """Say whether a case came out as it must, beside those before it."""
    outcome, other = outputs[case.name], case.unlike or case.like
    if outcome is None:
        return "not installed: make setup EXTRAS=" + case.overrides[0].partition("=")[2]
    if other not in outputs:
        return f"nothing to compare with: {other!r} was not tried"
    if case.unlike:
        return f"differs from {other!r}, as it must" if outcome != outputs[other] else f"WRONG: as {other!r}"
    verdict = "identical" if outcome == outputs[other] else "WRONG: different"
    return verdict if other == ALONE else f"{verdict} ({other!r})"


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(epilog="Exit status: 0 all is as it must be, 1 something is not, 2 an error.")
    described.add_argument("settings", nargs="*", help="of all trainings, as for train: trainer.limit_train_batches=20")
    return described
