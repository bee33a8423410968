"""Sweeps on SLURM: how a job ends, when it is submitted again, what is refused with nothing submitted."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .project import ROOT, UserError, command, module
from .slurm import Cluster

run_status = module("samebits.sweep.run_status")
plan = module("samebits.sweep.plan")
slurm = module("samebits.sweep.slurm")
Job = module("samebits.sweep.jobs").Job
JobStatus = module("samebits.sweep.jobs").JobStatus

PLENTY = 120.0


# --- when it has ended


def queued(state: str) -> Any:
    return run_status.QueuedJob("7", state, "None", "node1", "name", str(ROOT))


def node(state: str, job: str = "7") -> Any:
    return run_status.NodeState(
        job, "node1", 1, state, 2 if state == "failed" else 0, "no" if state == "failed" else ""
    )


@pytest.mark.parametrize(
    ("said", "wrote", "wanted"),
    [
        (queued("PENDING"), None, None),
        (queued("RUNNING"), node("running"), None),
        (queued("COMPLETING"), node("saved"), None),
        (queued("RUNNING"), node("finished"), "finished"),
        (queued("COMPLETED"), node("finished"), "finished"),
        (None, node("finished"), "finished"),
        (None, node("running"), "again"),
        (None, None, "again"),
        (queued("TIMEOUT"), node("running"), "again"),
        (queued("PREEMPTED"), node("saved"), "again"),
        (queued("NODE_FAIL"), node("running"), "again"),
        (queued("FAILED"), node("saved"), "again"),
        (queued("FAILED"), node("running"), "again"),
        (queued("FAILED"), node("failed"), "failed"),
        (queued("FAILED"), node("finished", job="6"), "failed"),  # an earlier job's
        (queued("FAILED"), None, "failed"),
        (queued("CANCELLED"), node("saved"), "failed"),
        (queued("OUT_OF_MEMORY"), node("running"), "failed"),
    ],
)
def test_how_a_job_has_ended(said: Any, wrote: Any, wanted: str | None) -> None:
    outcome = run_status.job_outcome("7", said, wrote)
    found = outcome and ("again" if outcome.resubmit else "failed" if outcome.exit_status else "finished")
    assert found == wanted


def test_what_squeue_prints_is_read() -> None:
    found = run_status.parse_squeue("7|PENDING|Resources||a-1|/home/me/with | bar\n8|RUNNING|None|node[1-2]|a-2|/x\n")
    assert (
        found["7"].folder == "/home/me/with | bar" and found["7"].description == "waits in the queue (Resources), job 7"
    )
    assert found["8"].description == "running on node[1-2], job 8" and not found["8"].ended


# --- jobs, on a SLURM in miniature


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(tmp_path)
    monkeypatch.setenv("PATH", f"{made.install()}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "SETTLE", 1.0)
    monkeypatch.setattr(slurm, "SECONDS", 0.3)
    return made


def job_of(workspace: Path, folder: Path, *more: str) -> Any:
    """Plan one run, and make its job."""
    said = [f"paths.root='{workspace}'", f"paths.models='{folder / 'models'}'", "snapshot=false", *more]
    (planned,) = plan.plan_runs(plan.combine(said), ["cluster=slurm"])
    execution = slurm.SlurmExecutor().execution(planned)
    return Job(planned.combination.label, planned.command(folder / "logs"), execution)


def begin(job: Any, stopped: Callable[[], bool] = lambda: False) -> threading.Thread:
    thread = threading.Thread(target=job.run, args=(stopped,), daemon=True)
    thread.start()
    return thread


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PLENTY
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_is_submitted_once_and_again_after_preemption(workspace: Path, tmp_path: Path, cluster: Cluster) -> None:
    long = ("trainer.max_epochs=12", "callbacks.resume.every_n_steps=10")
    (cluster.folder / "hold").touch()
    first = job_of(workspace, tmp_path, *long)
    thread = begin(first, first.execution.detached.is_set)
    until(cluster.jobs)
    first.execution.detach()  # Ctrl-C
    thread.join(PLENTY)
    assert first.status is JobStatus.WAITING and list(cluster.jobs()) == ["1"]
    job = job_of(workspace, tmp_path, *long)
    thread = begin(job)
    (cluster.folder / "hold").unlink()
    until(lambda: list(tmp_path.glob("models/*/checkpoints/*.ckpt")))
    cluster.end("1", "PREEMPTED")
    thread.join(PLENTY)
    assert job.status is JobStatus.FINISHED, job.reason
    until(lambda: [each["state"] for each in cluster.jobs().values()] == ["PREEMPTED", "COMPLETED"])
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("models/*/record.json"))
    assert record["observed"]["starts"] == 2 and job.results
    assert not (cluster.folder / "requeued.json").exists()  # SLURM had ended it: it did not queue itself again


def test_stop_cancels_the_job_and_its_state_is_saved(workspace: Path, tmp_path: Path, cluster: Cluster) -> None:
    job = job_of(workspace, tmp_path, "trainer.max_epochs=100")
    thread = begin(job)
    until(lambda: job.done > 0)
    job.stop()
    thread.join(PLENTY)
    assert job.status is JobStatus.STOPPED and cluster.jobs()["1"]["state"] == "CANCELLED"
    until(lambda: list(tmp_path.glob("models/*/checkpoints/*.ckpt")))
    assert run_status.read_state(job.log.with_suffix(".json"), run_status.RunState).status == "stopped"


def test_what_fails_is_named_and_not_submitted_again(workspace: Path, tmp_path: Path, cluster: Cluster) -> None:
    job = job_of(workspace, tmp_path, "debug=fast", "model._target_=tests.busy.Indeterministic")
    job.run(lambda: False)
    assert job.status is JobStatus.FAILED and "no deterministic implementation" in job.reason
    assert len(cluster.jobs()) == 1
    until(lambda: cluster.jobs()["1"]["state"] == "FAILED")
    cluster.change("1", state="RUNNING")  # if SLURM has yet to notice its end, it is not followed once more
    job.execution.executor.queue.asked_at = float("-inf")
    job.execution.cfg.cluster.partition = "nowhere"
    with pytest.raises(UserError, match=r"SLURM refuses the job \(Batch job submission failed: Invalid partition"):
        job.run(lambda: False)
    noted = run_status.read_state(job.log.with_suffix(".json"), run_status.RunState)
    assert noted.status == "failed" and "Invalid partition" in noted.reason  # for `make status`


# --- what is refused, in one sentence and with nothing submitted


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cluster=slrm", "seed=0,1"], "cluster=slrm: there is no such option; choose from local, ray, slurm"),
        (["cluster=slurm"], "there is nothing to vary"),
        (["cluster=local,slurm", "seed=0,1"], "cluster=local,slurm names several values"),
        (["cluster=slurm", "cluster.time=1:00", "seed=0,1"], "cluster.time is '1:00', but must be a time in quotes"),
        (["cluster=slurm", "seed=0,1"], "there is no sbatch on this computer"),
        (["cluster=slurm", "seed=0,1"], "cluster=slurm needs the package submitit: run `make setup`"),
        (["cluster=ray", "seed=0,1"], "cluster=ray needs the package ray: run `make setup EXTRAS=ray`"),
    ],
)
def test_a_mistake_gets_one_sentence(
    arguments: list[str], sentence: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if package := re.search("needs the package ([a-z]+)", sentence):
        (tmp_path / f"{package[1]}.py").write_text("raise ImportError")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    done = command("sweep", *arguments, *([f"paths.root='{workspace}'"] if "seed=0,1" in arguments else []))
    assert done.returncode == 2 and sentence in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
