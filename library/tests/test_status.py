"""`make status`: where each run stands, by what the sweep and the node wrote, and by what SLURM says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .project import ROOT, module

status = module("samebits.sweep.run_status")
EPOCH = "epoch 2 of 4, batch 1 of 5: val/loss=0.5\n"


def note(folder: Path, name: str, **values: Any) -> Path:
    path = folder / f"{name}.json"
    log = folder / f"{name}.log"
    log.write_text(EPOCH)
    made = {"pid": os.getpid(), "directory": str(folder / "models" / name), "cluster": "local"} | values
    status.write_state(path, status.RunState(label=name, overrides=[], log=str(log), **made))
    return path


def stands(path: Path, queued: Any = None) -> tuple[str, str]:
    found = status.run_status(path, status.read_state(path, status.RunState), queued)
    return found.status, found.detail


def test_processes_of_this_computer(tmp_path: Path) -> None:
    assert stands(note(tmp_path, "a", status="waiting")) == ("waiting", "")
    assert stands(note(tmp_path, "b", status="running")) == ("running", EPOCH.strip())
    assert stands(note(tmp_path, "c", status="failed", reason="no.")) == ("failed", "no.")
    gone = note(tmp_path, "d", status="running", pid=2**22 + 1)
    assert stands(gone) == ("interrupted", "the same make sweep goes on")
    assert stands(note(tmp_path, "e", status="finished"))[0] == "removed"
    done = note(tmp_path, "f", status="running", pid=2**22 + 1)
    (tmp_path / "models/f").mkdir(parents=True)
    (tmp_path / "models/f/metrics.json").write_text(json.dumps({"test/accuracy": 0.5, "val/loss": 1.0}))
    assert stands(done) == ("finished", "test/accuracy 0.5000")


def test_jobs_of_slurm(tmp_path: Path) -> None:
    def queued(state: str, reason: str = "None") -> Any:
        return status.QueuedJob("7", state, reason, "" if state == "PENDING" else "node1", "name", str(ROOT))

    path = note(tmp_path, "a", cluster="slurm", job="7")
    assert stands(path, queued("PENDING", "Resources")) == ("waiting", "pending (Resources)")
    assert stands(path, queued("RUNNING")) == ("running", f"on node1, {EPOCH.strip()}")
    status.write_state(path.with_suffix(".node.json"), status.NodeState("7", "node1", 2, "saved"))
    assert stands(path, queued("PENDING", "BeginTime"))[1].startswith(
        "pending (BeginTime), its state is saved (start 2"
    )
    assert stands(path, None)[0] == "interrupted"
    status.write_state(
        path.with_suffix(".node.json"), status.NodeState("7", "node1", 1, "failed", 2, "the code changed.")
    )
    assert stands(path, queued("FAILED")) == ("failed", "the code changed.")
    status.write_state(path.with_suffix(".node.json"), status.NodeState("6", "node1", 1, "failed", 2, "of another job"))
    assert stands(path, queued("CANCELLED"))[1] == "job 7 was cancelled before it began"
    assert "will not begin (PartitionConfig)" in stands(path, queued("PENDING", "PartitionConfig"))[1]


def test_what_slurm_forgets_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancelled job, of a sweep that has ended: SLURM forgets it after some minutes."""
    said = {"7": status.QueuedJob("7", "CANCELLED", "None", "", "name", str(ROOT))}
    seen, unseen = (note(tmp_path, name, cluster="slurm", job="7", pid=2**22 + 1) for name in ("seen", "unseen"))
    monkeypatch.setattr(status, "query_jobs", lambda: said)
    unseen.rename(aside := tmp_path / "aside")
    ((found,), _) = status.all_statuses(tmp_path)
    assert (found.status, found.detail) == ("failed", "job 7 was cancelled before it began")
    monkeypatch.setattr(status, "query_jobs", dict)
    aside.rename(unseen)
    now = {row.directory.rpartition("/")[2]: row for row in status.all_statuses(tmp_path)[0]}
    assert now["seen"] == found and now["unseen"].status == "interrupted"  # the control
    assert seen.exists()


def test_the_table_is_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "LOGS", tmp_path)
    status.main(status.parser().parse_args([]))
    assert "There is no sweep yet: make sweep" in capsys.readouterr().out
    note(tmp_path, "seed=1", status="failed", reason="an [odd] reason.")
    (tmp_path / "damaged.json").write_text("{")
    status.main(status.parser().parse_args([]))
    said = capsys.readouterr().out
    assert said.startswith("seed=1  failed  an [odd] reason.") and said.count("\n") == 1
    status.draw(status.all_statuses(tmp_path)[0])
    assert "an [odd] reason." in capsys.readouterr().out.replace("\n", " ")


def test_slurm_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(tmp_path, "a", cluster="slurm", job="7", status="running")
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,), trouble = status.all_statuses(tmp_path)
    assert found.status == "running" and "squeue" in trouble
