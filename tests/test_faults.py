"""A catalogue of faults: one training, many faults planted in copies of it, and for each the verdict and the cause."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from . import faults
from .conftest import IDENTITY, Project
from .copies import PACKAGE, SHORT, Copy, flip
from .faults import NETWORK

pytestmark = pytest.mark.project

IDENTICAL, ENVIRONMENT, NONDETERMINISTIC = "IDENTICAL", "ENVIRONMENT", "NONDETERMINISTIC"
INPUTS, TAMPERED = "DIFFERENT INPUTS", "TAMPERED"
TWO_THREADS = "def after(torch):\n    real = torch.set_num_threads\n    torch.set_num_threads = lambda number: real(2)"
# In C, behind Python's back: what Python knows of, the engine removes
OTHER_INSTRUCTIONS = "def before():\n    ctypes.CDLL(None).setenv(b'ATEN_CPU_CAPABILITY', b'default', 1)"
FLAGS = """def after(torch):
    torch.use_deterministic_algorithms = lambda *arguments, **named: None
    precise = torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision = lambda precision: precise("medium")"""
NOISE = "1 + int.from_bytes(os.urandom(2), 'little') * 1e-6"


@dataclass(frozen=True)
class Fault:
    """What is planted, and what must be said of it."""

    plant: Callable[[Copy], object]
    verdict: str
    causes: tuple[str, ...]  # all of them are to be found in what is printed
    probe: str = ""  # the verdict of `make probe`, where it must name the cause as well
    options: tuple[str, ...] = ()  # of `samebits reproduce`


def edit(name: str, old: str, new: str) -> Callable[[Copy], object]:
    return lambda copy: copy.edit(name, old, new)


def spoil(name: str, position: int = -1) -> Callable[[Copy], object]:
    return lambda copy: flip(copy.path / name, position)


FAULTS = {
    "seed": Fault(
        edit("configs/train.yaml", "\nseed: 0", "\nseed: 1"),
        INPUTS,
        ("settings seed", "step 0, in the weights"),
        options=("--config", "here"),
    ),
    "learning rate": Fault(
        edit("configs/model/cnn.yaml", "lr: 0.002", "lr: 0.003"),
        INPUTS,
        ("settings model.optimizer.lr", "0.003", "in the weights", "operator _fused_adam_ in optimizer"),
        options=("--config", "here"),
    ),
    "learning rate, which the record has otherwise": Fault(
        edit("configs/model/cnn.yaml", "lr: 0.002", "lr: 0.003"),
        IDENTICAL,
        ("All are the same", "model.optimizer.lr: 0.002 recorded, 0.003 here", "CONFIG=here"),
    ),
    "prepare.py, and the data are not made anew": Fault(
        edit(f"src/{PACKAGE}/data/prepare.py", "BLOCK = 1024", "BLOCK = 512"),
        INPUTS,
        (
            f"src/{PACKAGE}/data/prepare.py (stage prepare@digits) changed since",
            "every result is the recorded one",
            "make data",
        ),
    ),
    "a comment in prepare.py": Fault(
        edit(f"src/{PACKAGE}/data/prepare.py", "BLOCK = 1024", "# a comment\nBLOCK = 1024"),
        IDENTICAL,
        ("All are the same",),
    ),
    "config edited": Fault(
        lambda copy: copy.edit(f"models/{copy.run.name}/config.yaml", "lr: 0.002", "lr: 0.003"),
        TAMPERED,
        ("config.yaml: model.optimizer.lr is 0.003, but the record says 0.002",),
    ),
    "one byte of raw data": Fault(faults.raw_byte, INPUTS, ("data raw/digits.csv.gz", "make data")),
    "one label": Fault(
        spoil("data/processed/digits/train_labels.npy", -8), INPUTS, ("data train_labels.npy", "make data")
    ),
    "order of classes": Fault(faults.reverse_classes, INPUTS, ("data test_labels.npy", "data train_labels.npy")),
    "a deleted data file": Fault(
        lambda copy: (copy.path / "data/processed/digits/val_images.npy").unlink(), INPUTS, ("data val_images.npy", "—")
    ),
    "an edit in the model": Fault(
        edit(NETWORK, "padding=1)", 'padding=1, padding_mode="reflect")'),
        INPUTS,
        (
            f"code {PACKAGE}/models/network.py",
            '+            nn.Conv2d(1, first, kernel_size=3, padding=1, padding_mode="reflect")',
            "step 1",
        ),
    ),
    "an edit that changes nothing": Fault(
        edit(NETWORK, '"""The layers.', '"""Layers.'),
        IDENTICAL,
        (f"code {PACKAGE}/models/network.py", "does not alter the result"),
    ),
    "an unversioned helper, changed": Fault(
        faults.changed_helper,
        INPUTS,
        ("code outside of the package helper.py", "-SCALE = 2.0", "in the loss"),
    ),
    "an unversioned helper, gone": Fault(
        faults.vanished_helper,
        INPUTS,
        ("code outside of the package helper.py", "No module named 'helper'"),
    ),
    "another package version": Fault(
        faults.another_version, ENVIRONMENT, ("packages.torch", "2.13.99", "step 0, in the weights"), ENVIRONMENT
    ),
    "a patched file of a package": Fault(
        faults.patched_file, ENVIRONMENT, ("patched.torch/nn/modules/loss.py", "step 1, in the loss"), ENVIRONMENT
    ),
    "threads, native": Fault(
        faults.native(TWO_THREADS),
        ENVIRONMENT,
        ("threads.operations", "startup.sitecustomize", "first at step 1, in the "),
        ENVIRONMENT,
    ),
    "instructions, native": Fault(
        faults.native(OTHER_INSTRUCTIONS),
        ENVIRONMENT,
        ("processor.model", "(DEFAULT)", "first at step "),
        ENVIRONMENT,
    ),
    "TF32 and deterministic flags": Fault(
        lambda copy: copy.startup(FLAGS),
        IDENTICAL,  # on a CPU they change nothing; the table names them
        ("flags.deterministic algorithms", "flags.matmul precision", "medium", "does not alter"),
        IDENTICAL,
    ),
    "a nondeterministic operation": Fault(
        faults.in_model(NOISE, "os"),
        NONDETERMINISTIC,
        ("models/network.py", "calls os.urandom()", "step 1, in the loss", "operator mul"),
        NONDETERMINISTIC,
    ),
    "time-dependent code": Fault(
        faults.in_model("1 + time.time() % 1", "time"),
        NONDETERMINISTIC,
        ("calls time.time()", "step 1, in the loss"),
        NONDETERMINISTIC,
    ),
    "a file that nobody wrote down": Fault(
        faults.unwritten_file, INPUTS, ("file outside of the data", "-notes.txt", "in the loss"), INPUTS
    ),
    "a metric edited": Fault(
        lambda copy: copy.edit(f"models/{copy.run.name}/metrics.json", '"test/accuracy": 0.', '"test/accuracy": 0.9'),
        TAMPERED,
        ("metrics.json: test/accuracy is 0.9", "but the record says 0."),
    ),
    "a metric edited in file and record": Fault(
        faults.forge_metric, TAMPERED, ("test/accuracy is 0.99 in the record, but the test in trace.jsonl gave 0.",)
    ),
    "a metric edited everywhere": Fault(
        faults.forge_metric_and_trace,
        ENVIRONMENT,
        ("test, in the metrics (test/accuracy)", "edited the record, all of its parts alike, cannot be excluded"),
    ),
    "one bit of the weights": Fault(
        lambda copy: flip(copy.run / "model.safetensors", -1),
        TAMPERED,
        ("model.safetensors: the tensor layers",),
    ),
    "a line of the trace removed": Fault(
        faults.remove_line, TAMPERED, ("trace.jsonl was edited: after step 6, line 8 (step 8)",)
    ),
    "the weights of another run": Fault(
        faults.exchange_weights, TAMPERED, ("is that of the run reference-cnn-seed=1-", "the record is that of")
    ),
    "a renamed run": Fault(
        lambda copy: copy.run.rename(copy.run.with_name(copy.run.name.replace("seed=0-", "seed=0-the-best-"))),
        TAMPERED,
        ("the directory is called",),
    ),
    "a comment in the README": Fault(faults.comment_in_readme, IDENTICAL, ("All are the same",), IDENTICAL),
    "all files touched": Fault(faults.touch_all, IDENTICAL, ("All are the same",)),
    "the checkout moved": Fault(faults.move_checkout, IDENTICAL, ("All are the same",)),
    "another user, another HOME": Fault(faults.to_another_user, IDENTICAL, ("All are the same",)),
}


@pytest.fixture(scope="module")
def outcomes(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[list[str]]]:
    """Train once, plant each fault in a copy, and verify; two at a time."""
    folder = tmp_path_factory.mktemp("faults")
    folder.chmod(0o755)
    for parent in folder.parents[:2]:
        parent.chmod(0o755)  # for another user
    base = Copy(folder / "base")
    project.run("git", "add", "--all")
    project.run("git", *IDENTITY, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", "Results")
    subprocess.run(["git", "clone", "--quiet", str(project.path), str(base.path)], check=True)
    for part in ("raw", "processed"):
        shutil.copytree(project.path / "data" / part, base.path / "data" / part)
    (base.path / ".venv").symlink_to(project.path / ".venv")
    for more in ((), ("seed=1",)):
        done = base.call(f"{PACKAGE}.train", *SHORT, *more)
        assert done.returncode == 0, done.stdout

    def outcome(number: int, fault: Fault) -> list[str]:
        copy = Copy(folder / f"copy-{number}")
        subprocess.run(["cp", "--archive", str(base.path), str(copy.path)], check=True)
        fault.plant(copy)
        said = [copy.verify(*fault.options, *more) for more in ([], ["--probe"])[: 1 + bool(fault.probe)]]
        expected = [0 if kind == IDENTICAL else 1 for kind in (fault.verdict, fault.probe)]
        statuses = [done.returncode for done in said]
        assert statuses == expected[: len(said)], "\n".join(done.stdout for done in said)
        return [done.stdout for done in said]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {name: pool.submit(outcome, number, fault) for number, (name, fault) in enumerate(FAULTS.items())}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gets_the_right_verdict_and_the_right_cause(outcomes: dict[str, Future[list[str]]], name: str) -> None:
    fault = FAULTS[name]
    for said, verdict in zip(outcomes[name].result(), (fault.verdict, fault.probe), strict=False):
        assert f"\n{verdict} " in said, said
        missing = [cause for cause in fault.causes if cause not in said]
        assert not missing, said
        assert "\nNext:" in said and "Traceback" not in said
