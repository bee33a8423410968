"""Train again and again with what must not matter changed, and compare the weights: `make invariance`.

Every training is a command of its own. What must matter is changed as well, to see that the comparison can fail.
"""

from __future__ import annotations

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

from .project import NAME, ROOT

# Without `best`, the last weights are kept: which ones are best does depend on when they are validated
TRAINING = ("trainer.max_epochs=2", "+trainer.check_val_every_n_epoch=1", "callbacks.best=null", "run_name=invariance")
ALONE = "nothing changed"
NATIVE = "native, 1 thread"
SHARDS = "4 shards"
SEVERAL = ("determinism.shards=4", "trainer=ddp")
NOT_INSTALLED = 2  # exit status where a package is missing: a user's mistake


@dataclass(frozen=True)
class Case:
    """One way to start the same training."""

    name: str
    overrides: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    folder: Path = ROOT
    umask: int = -1
    cores: int = 0  # visible to the process; 0 are all
    terminal: bool = False  # draw the progress bar
    neighbours: int = 0  # processes that keep the cores busy
    kill: bool = False  # after the first checkpoint, and start it again
    like: str = ALONE  # the weights must be those of this case
    unlike: str = ""  # a control: the weights must differ from those of this case


def options(*names: str) -> list[Case]:
    """Make a case of each override."""
    return [Case(name, (name,)) for name in names]


CASES = [
    Case(ALONE),
    *(Case(f"{count} workers", (f"data.module.num_workers={count}",)) for count in (1, 2, 4)),
    Case("2 workers, not persistent", ("data.module.num_workers=2", "data.module.persistent_workers=false")),
    Case("2 workers, prefetch 1", ("data.module.num_workers=2", "data.module.prefetch_factor=1")),
    Case("2 workers, prefetch 4", ("data.module.num_workers=2", "data.module.prefetch_factor=4")),
    Case("validation twice an epoch", ("trainer.val_check_interval=0.5",)),
    Case("validation never", ("trainer.check_val_every_n_epoch=1000",)),
    *options("trainer.num_sanity_val_steps=2", "logger=tensorboard", "logger=mlflow", "logger=wandb"),
    Case("progress bar in a terminal", terminal=True),
    *options("trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "callbacks.resume.every_n_steps=1"),
    Case("another working directory", folder=Path("/")),
    Case("another time zone", environment={"TZ": "Asia/Kathmandu"}),
    Case("another locale", environment={"LC_ALL": "C", "LANG": "tr_TR.UTF-8"}),
    Case("PYTHONHASHSEED=0", environment={"PYTHONHASHSEED": "0"}),
    Case("PYTHONHASHSEED=123", environment={"PYTHONHASHSEED": "123"}),
    Case("umask 077", umask=0o077),
    Case("1 core", cores=1),
    Case("2 cores", cores=2),
    Case("busy neighbours", neighbours=2 * (os.cpu_count() or 1)),
    Case("killed, and started again", ("callbacks.resume.every_n_steps=1",), kill=True),
    Case("OMP_NUM_THREADS=3 before", environment={"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3"}),
    Case("seed=1", ("seed=1",), unlike=ALONE),
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
    Case("plain loader", ("data.module._target_=tests.busy.PlainDataModule",), unlike=ALONE),
    Case(
        "plain loader, 2 workers",
        ("data.module._target_=tests.busy.PlainDataModule", "data.module.num_workers=2"),
        unlike="plain loader",
    ),
]


def result(case: Case, folder: Path, overrides: tuple[str, ...] = ()) -> Any:
    """Train in `folder`, and return the weights' digest and the metrics; None where a package is missing.

    Raises:
        RuntimeError: the training failed.
    """
    cores = sorted(os.sched_getaffinity(0))[: case.cores] if case.cores else []
    words = [sys.executable, "-m", f"{NAME}.train", *TRAINING, *overrides, *case.overrides]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"} | case.environment
    with ExitStack() as stack:
        for _ in range(case.neighbours):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        terminal = pty.openpty() if case.terminal else ()
        for end in terminal:
            stack.callback(os.close, end)
        words.append(f'paths.models="{folder}"')
        if case.kill:
            first = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            while first.poll() is None and not list(folder.glob("*/checkpoints/*.ckpt")):
                time.sleep(0.005)
            first.kill()
            if first.wait() == 0:
                raise RuntimeError(f"{case.name}: the training was too short to be killed; make it longer in TRAINING")
        done = subprocess.run(
            words,
            cwd=case.folder,
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
        raise RuntimeError(f"{case.name}: {done.stdout}")
    (record,) = folder.glob("*/record.json")
    return json.loads(record.read_text())["outputs"]


def main(overrides: list[str]) -> int:
    """Print a table; return 1 where something is not as it must be."""
    wrong = 0
    results: dict[str, Any] = {}
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda case: result(case, Path(folder) / case.name, tuple(overrides)), CASES)
        for case, outcome in zip(CASES, found, strict=True):
            results[case.name] = outcome
            if outcome is None:
                verdict = "not installed: make setup EXTRAS=" + case.overrides[0].partition("=")[2]
            elif case.unlike:
                as_it_must = outcome != results[case.unlike]
                verdict = f"differs from {case.unlike!r}, as it must" if as_it_must else f"WRONG: as {case.unlike!r}"
            else:
                as_it_must = outcome == results[case.like]
                verdict = "identical" if as_it_must else "WRONG: different"
                verdict += f" ({case.like!r})" if case.like != ALONE else ""
            wrong += verdict.startswith("WRONG")
            print(f"{case.name:<36}{outcome['weights'][:12] if outcome else '':<14}{verdict}", flush=True)
    print(f"{len(CASES)} trainings in {time.monotonic() - begin:.0f} s, {wrong} not as they must be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
