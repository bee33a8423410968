"""Several runs at once: which ones, one that fails, several values of a setting."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .project import NAME, ROOT, UserError, command, module

plan = module("samebits.sweep.plan")
jobs = module("samebits.sweep.jobs")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0..4", "0,1,2,3,4"), ("7", "7"), ("1,5,7", "1,5,7"), ("0..2, 9", "0,1,2,9"), ("0..1,1..2", "0,1,2")],
)
def test_seeds(text: str, wanted: str) -> None:
    assert plan.seeds(text) == f"seed={wanted}"


@pytest.mark.parametrize("text", ["", "x", "4..0", "0...4", "-1", "0..", "1;2"])
def test_wrong_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is not a list of seeds: write SEEDS=0\.\.4"):
        plan.seeds(text)


def test_every_combination_is_a_run() -> None:
    found = plan.combine(["model=cnn,mlp", "trainer.max_epochs=2", "seed=range(0,2)"])
    assert [each.label for each in found] == [
        f"model={model} seed={seed}" for model in ("cnn", "mlp") for seed in (0, 1)
    ]
    assert found[3].overrides == ["model=mlp", "trainer.max_epochs=2", "seed=1"]
    (one,) = plan.combine(["seed=3", "model.network.channels=[8,8]"])  # a list is one value
    assert (
        one.overrides == ["seed=3", "model.network.channels=[8,8]"]
        and one.label == "seed=3 model.network.channels=[8,8]"
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sead=1,2", "did you mean 'seed'"),
        ("data.split={a:1}", r"\+data\.split\.<name>=<value>"),
        ("cluster.partition=x", "no setting of the cluster that is"),
        ("model=cnn,rnn", None),
        ("seed=interval(0,1)", "without steps"),
        ("x", "="),
    ],
)
def test_wrong_settings_are_refused(word: str, said: str | None) -> None:
    if said is None:  # it is found out by the check before the first training
        done = command("sweep", word)
        assert done.returncode == 2 and "choose from cnn, mlp" in done.stderr and "Traceback" not in done.stderr
    else:
        with pytest.raises(UserError, match=said):
            plan.combine([word])


def test_a_run_that_fails_is_named_and_touches_no_other(workspace: Path, tmp_path: Path) -> None:
    """The same as `train -m`; the second time, what is finished is skipped."""
    targets = f"model._target_={NAME}.models.classifier.Classifier,tests.busy.Indeterministic"
    words = [f"paths.root='{workspace}'", f"paths.models='{tmp_path}'", "debug=fast", "snapshot=false", targets]
    first = command("train", "-m", *words)
    assert first.returncode == 1, first.stdout + first.stderr
    lines = [line for line in first.stderr.splitlines() if line.startswith("FAILED")]
    assert len(lines) == 1 and "model._target_=tests.busy.Indeterministic: " in lines[0]
    assert "no deterministic implementation" in lines[0] and "1 of 2 runs finished" in first.stdout
    log = ROOT / lines[0].rpartition(" is in ")[2].rstrip(")")
    assert "error: " in log.read_text()
    (finished,) = (path.parent for path in tmp_path.glob("*/metrics.json"))
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    again = command("sweep", *words[:-1], targets.split(",")[0], "--seeds", "0", "--jobs", "1")
    assert again.returncode == 0 and again.stdout.count("was finished") == 1, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before
    (failed,) = {path.parent for path in tmp_path.glob("*/record.json")} - {finished}
    assert json.loads((failed / "compute.json").read_text())["wall_seconds"] > 0  # what it cost is not lost


def test_a_sweep_that_is_stopped_saves_and_goes_on(workspace: Path, tmp_path: Path) -> None:
    words = [f"paths.root='{workspace}'", f"paths.models='{tmp_path}'", "snapshot=false", "trainer.max_epochs=5"]
    arguments = [sys.executable, "-m", "samebits", "sweep", *words, "--seeds", "0,1", "--jobs", "2"]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        until = time.monotonic() + 120
        while len(list(tmp_path.glob("*/compute.json"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        process.terminate()
        said, _ = process.communicate()
    assert process.returncode == 130 and "Interrupted: the same command goes on" in said and "Traceback" not in said
    assert not list(tmp_path.glob("*/metrics.json")) and list(tmp_path.glob("*/compute.json"))
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")]
    assert [record["observed"]["starts"] for record in records] == [2, 2]
    assert not list(tmp_path.glob("*/compute.json"))


def test_reasons_are_one_line() -> None:
    assert (
        jobs.failure_reason(1, ["epoch 1", "Traceback (most recent call last):", "ValueError: no", ""])
        == "ValueError: no"
    )
    assert jobs.failure_reason(2, ["error: a is wrong.", "more"]) == "a is wrong."
    assert "SIGKILL, perhaps for want of memory" in jobs.failure_reason(-9, [])
