"""A checkpoint is whole or not there, damage is noticed, and one process at a time writes."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from .cutting import BUSY, Killed, Killer, Train, outcome
from .project import UserError, module

SHORT = (
    *BUSY[:2],
    *(f"trainer.limit_{name}_batches={count}" for name, count in (("train", 6), ("val", 1), ("test", 1))),
    "trainer.log_every_n_steps=1",
    "callbacks.resume.every_n_steps=1",
)
Short = tuple[Path, tuple[Any, ...]]


@pytest.fixture(scope="module")
def cut_off(train: Train) -> Short:
    """Kill a short training that has two checkpoints; return its directory, and what it should end with."""
    expected = outcome(train("short alone", overrides=SHORT)[0])
    run, _ = train("short", Killer("on_train_batch_end", 5), overrides=SHORT)
    assert len(list((run / "checkpoints").iterdir())) == 2
    return run, expected


def damages(content: bytes) -> list[bytes]:
    """Cut the file off at ten places, and flip one bit at ten others."""
    places = [len(content) * part // 10 for part in range(10)]
    flips = [place + len(content) // 20 for place in places]
    flipped = [content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :] for place in flips]
    return [content[:place] for place in places] + flipped


@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_is_noticed(
    train: Train, cut_off: Short, capsys: pytest.CaptureFixture[str], both: bool
) -> None:
    is_sealed = module("samebits.engine.files").is_sealed
    run, expected = cut_off
    older, newest = sorted((run / "checkpoints").iterdir())
    content = newest.read_bytes()
    for number, damaged in enumerate(damages(content)):
        (run.parent / "damaged").write_bytes(damaged)
        assert not is_sealed(run.parent / "damaged")
        if number % 6:  # what is not sealed is not used: some trainings are enough to see it
            continue
        folder = f"damaged-{both}-{number}"
        copy = run.parents[1] / folder / run.name
        shutil.copytree(run, copy)
        (copy / "checkpoints" / newest.name).write_bytes(damaged)
        if both:
            (copy / "checkpoints" / older.name).write_bytes(damaged)
        assert outcome(train(folder, overrides=SHORT)[0]) == expected
        said = capsys.readouterr().err
        assert f"{newest.name} is damaged: " in said
        assert ("training from the beginning" if both else f"going on from {older.name}") in said


def test_a_wrong_checkpoint_would_be_seen(train: Train, cut_off: Short) -> None:
    """The control: with another weight in a checkpoint that is sealed anew, the run ends differently."""
    run, expected = cut_off
    copy = run.parents[1] / "forged" / run.name
    shutil.copytree(run, copy)
    newest = max((copy / "checkpoints").iterdir())
    content = torch.load(newest, weights_only=True)
    content["state_dict"]["network.layers.0.weight"][0] += 1e-3
    module("samebits.engine.files").write_sealed(newest, lambda file: torch.save(content, file))
    assert outcome(train("forged", overrides=SHORT)[0]) != expected


@pytest.mark.parametrize(("call", "after"), [("os.fsync", 7), ("os.fsync", 8), ("pathlib.Path.replace", 4)])
def test_a_kill_while_a_checkpoint_is_written(
    train: Train, cut_off: Short, monkeypatch: pytest.MonkeyPatch, call: str, after: int
) -> None:
    owner = os if call == "os.fsync" else Path
    original, calls = getattr(owner, call.split(".")[-1]), iter(range(1, 1000))

    def killing(*arguments: Any) -> Any:
        if next(calls) == after:
            raise Killed
        return original(*arguments)

    folder = f"{call}-{after}"
    with monkeypatch.context() as patch:
        patch.setattr(call, killing)
        run, _ = train(folder, overrides=SHORT)
    assert not (run / "metrics.json").exists()
    assert outcome(train(folder, overrides=SHORT)[0]) == cut_off[1]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write checkpoints as on a GPU, while training goes on, which changes the weights meanwhile."""
    checkpoint = module("samebits.engine.checkpoint")
    monkeypatch.setattr(checkpoint, "ON_DEVICE", ("cpu",))
    write_sealed = checkpoint.write_sealed

    def slowly(path: Path, write: Any) -> None:
        time.sleep(0.05)
        write_sealed(path, write)

    monkeypatch.setattr(checkpoint, "write_sealed", slowly)


@pytest.mark.usefixtures("later")
def test_a_checkpoint_holds_the_state_of_its_step_though_it_is_written_later(train: Train, cut_off: Short) -> None:
    run, _ = train("later", Killer("on_train_batch_end", 5), overrides=SHORT)
    files = sorted((run / "checkpoints").iterdir())
    assert [path.name for path in files] == [f"resume-{step:09}.ckpt" for step in (3, 4)]
    for path in files:
        mine, theirs = (
            torch.load(folder / "checkpoints" / path.name, weights_only=True) for folder in (run, cut_off[0])
        )
        assert all(torch.equal(mine["state_dict"][name], each) for name, each in theirs["state_dict"].items())
    files[1].rename(files[1].with_suffix(".ckpt.new"))  # as where it was killed while it wrote
    assert outcome(train("later", overrides=SHORT)[0]) == cut_off[1]


@pytest.mark.usefixtures("later")
def test_a_full_disk_is_said_though_it_was_noticed_later(train: Train, cut_off: Short) -> None:
    # the second may have been written before the disk was full, or not
    test_a_full_disk_leaves_the_last_checkpoint_intact(train, cut_off, "full later", (1, 2))


def test_a_full_disk_leaves_the_last_checkpoint_intact(
    train: Train, cut_off: Short, name: str = "full", last: tuple[int, ...] = (2,)
) -> None:
    """The disk is a limit on the size of files, which the system enforces in the middle of a write."""

    class Full(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError, match=r"is full .* make room; the same command goes on from the last checkpoint"):
            train(name, Full(), overrides=SHORT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (models,) = cut_off[0].parents[1].glob(name)
    (run,) = models.glob("debug-*")
    whole = [[f"resume-{step:09}.ckpt" for step in range(1, newest + 1)] for newest in last]
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] in whole
    assert outcome(train(name, overrides=SHORT)[0]) == cut_off[1]


def test_a_state_that_could_not_be_read_back_is_refused_at_once(train: Train) -> None:
    class Pickled(pl.Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"path": Path()}

    with pytest.raises(UserError, match=r"holds pathlib\.PosixPath, which cannot be loaded safely"):
        train("pickled", Pickled(), overrides=SHORT)


@pytest.mark.usefixtures("later")
def test_it_is_refused_soon_where_it_is_written_later(train: Train) -> None:
    class Pickled(pl.Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"path": Path()}

        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            if trainer.global_step > 1:  # the checkpoint is due after the first step
                time.sleep(0.2)
                steps.append(trainer.global_step)

    steps: list[int] = []
    with pytest.raises(UserError, match=r"holds pathlib\.PosixPath, which cannot be loaded safely"):
        train("pickled later", Pickled(), overrides=(*SHORT, "callbacks.resume.every_n_steps=3"))
    assert max(steps) < 6, "it is said before another one is due"


def test_without_checkpoints_a_run_starts_from_the_beginning(train: Train, cut_off: Short) -> None:
    overrides = (*SHORT[:-1], "callbacks.resume=null")
    run, _ = train("no checkpoints", Killer("on_train_batch_end", 5), overrides=overrides)
    assert not (run / "checkpoints").exists() and "train/mean" in (run / "history.csv").read_text()
    assert outcome(train("no checkpoints", overrides=overrides)[0]) == cut_off[1]


def test_a_history_that_was_edited_is_not_continued(train: Train, cut_off: Short) -> None:
    copy = cut_off[0].parents[1] / "edited" / cut_off[0].name
    shutil.copytree(cut_off[0], copy)
    text = (copy / "history.csv").read_text()
    (copy / "history.csv").write_text(text.replace("train", "trials", 1))
    with pytest.raises(UserError, match="not what the run had written"):
        train("edited", overrides=SHORT)


def test_a_run_is_not_continued_where_arithmetic_is_another(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = module("samebits.engine.environment")
    same_hardware = module("samebits.engine.callbacks").SameHardware  # as if this was not portable
    monkeypatch.setattr(module("samebits.engine.trainer"), "PortableOptimizer", same_hardware)
    train("moved", Killer("on_train_batch_end", 5), overrides=SHORT)
    here = environment.hardware(torch.device("cpu"))
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=r"begun on .*, and another may round otherwise"),
    ):
        patch.setattr(environment, "hardware", lambda device: "another")
        train("moved", overrides=SHORT)
    assert len(here) > 10 and environment.hardware(torch.device("cpu")) == here
    train("moved", overrides=SHORT)


HOLDER = "import sys, time; from pathlib import Path; from samebits.engine.files import only_process as only\n"
HOLDER += "with only(Path(sys.argv[1]), Path('x')): print('held', flush=True); time.sleep(60)"


def test_two_processes_on_one_run_are_kept_apart(train: Train, cut_off: Short) -> None:
    run, expected = cut_off
    copy = run.parents[1] / "locked" / run.name
    shutil.copytree(run, copy)
    lock = copy.parent / ".locks" / run.name
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"is being trained by process {holder.pid} on .*: wait until it has ended"):
        train("locked", overrides=SHORT)
    holder.kill()  # as a crash would: the lock's file stays, and is in nobody's way
    holder.communicate()
    assert lock.exists()
    assert outcome(train("locked", overrides=SHORT)[0]) == expected
