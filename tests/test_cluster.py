"""Sweeps on a cluster, for real: jobs of SLURM and tasks of Ray give the weights of this computer, come what may."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .baking import bake
from .clusters import PLENTY, at_once, kill_node, parent, processes, queue, ray_cluster, requeue, require_slurm, until
from .conftest import Project, lend_environment

pytestmark = pytest.mark.project

SHORT = "trainer.max_epochs=2 snapshot=false"
LONG = "trainer.max_epochs=50 snapshot=false callbacks.resume.every_n_steps=100"


@pytest.fixture(scope="module")
def cluster(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with data and an environment, in a folder that the cluster, being this computer, sees."""
    made = Project(bake(tmp_path_factory.mktemp("on a cluster") / "out").project.resolve())
    lend_environment(project.path, made.path)
    made.make("setup", "EXTRAS=ray")
    made.make("data")
    yield made
    for number in queue(made) if os.environ.get("REQUIRE_SLURM") else ():
        subprocess.run(["scancel", number])


@pytest.fixture
def slurm(cluster: Project) -> Project:
    require_slurm()
    return cluster


@pytest.fixture(scope="module")
def here(cluster: Project) -> dict[str, str]:
    """The weights that this computer gives without a cluster."""
    cluster.make("sweep", "SEEDS=0..3", f"ARGS={SHORT} paths.models=models/here")
    cluster.make("sweep", "SEEDS=5", f"ARGS={LONG} paths.models=models/here")
    found = digests(cluster, "here")
    assert len(set(found.values())) == 5  # the control: another seed, other weights
    return found


def digests(project: Project, folder: str) -> dict[str, str]:
    """Read the weights' digests of the finished runs in models/<folder>, by their directories' names."""
    finished = [path.parent for path in (project.path / "models" / folder).glob("*/metrics.json")]
    return {run.name: str(record(run)["outputs"]["weights"]) for run in finished}


def record(run: Path) -> dict[str, dict[str, object]]:
    return dict(json.loads((run / "record.json").read_text()))


@contextmanager
def sweep(project: Project, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep, and end it with the block."""
    with subprocess.Popen(
        [".venv/bin/python", "-m", "samebits", "sweep", *words],
        cwd=project.path,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background, it would be ignored
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def trains(project: Project, folder: str, since: float = 0.0) -> bool:
    """Whether a run in models/<folder> has written a checkpoint after some time."""
    found = project.path.glob(f"models/{folder}/*/checkpoints/resume-*.ckpt")
    return any(path.stat().st_mtime > since for path in found)


def log(project: Project, folder: str) -> str:
    """Read what the run in models/<folder> has printed."""
    notes = (json.loads(path.read_text()) for path in project.path.glob(".cache/sweep/*.json"))
    (path,) = {note["log"] for note in notes if f"/{folder}/" in note.get("directory", "")}
    return Path(path).read_text()


def test_a_job_for_each_seed_gives_the_weights_of_this_computer(slurm: Project, here: dict[str, str]) -> None:
    seen: set[str] = set()
    words = ("cluster=slurm", *SHORT.split(), "paths.models=models/jobs", "--seeds", "0..3")
    with sweep(slurm, *words) as process:
        while process.poll() is None:
            seen |= set(queue(slurm))
            time.sleep(0.1)
        output = process.communicate()[0]
    assert process.returncode == 0 and "4 of 4 runs finished" in output, output
    assert len(seen) == 4
    found = digests(slurm, "jobs")
    assert len(found) == 4 and found.items() <= here.items()
    lines = [line for line in slurm.make("status").splitlines() if "models/jobs/" in line]
    assert len(lines) == 4 and all("finished  test/loss" in line for line in lines)
    again = slurm.make("sweep", "CLUSTER=slurm", "SEEDS=0..3", f"ARGS={SHORT} paths.models=models/jobs")
    assert again.count("was finished") == 4 and not queue(slurm)


def test_ctrl_c_leaves_the_job_which_is_followed_again_and_survives_a_requeue(
    slurm: Project, here: dict[str, str]
) -> None:
    words = ("cluster=slurm", *LONG.split(), "paths.models=models/requeued", "seed=5")
    with sweep(slurm, *words) as process:
        until("training", lambda: trains(slurm, "requeued"))
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=60)[0]
    (number,) = queue(slurm)
    assert process.returncode == 130 and f"`scancel {number}` stops" in output and "Traceback" not in output, output
    status = [line for line in slurm.make("status").splitlines() if "models/requeued/" in line]
    assert len(status) == 1 and "  running  on " in status[0] and f"job {number}" in status[0]
    with sweep(slurm, *words) as process:
        time.sleep(3)
        requeue(number)
        until("the end", lambda: process.poll() is not None)
        output = process.communicate()[0]
    assert process.returncode == 0 and "1 of 1 run finished" in output, output
    assert not queue(slurm) and len(list(slurm.path.glob(f".cache/sweep/submitit/{number}_submission.sh"))) == 1
    newest = max(int(path.name.partition("_")[0]) for path in slurm.path.glob(".cache/sweep/submitit/*_submission.sh"))
    assert newest == int(number)  # never submitted again
    found = digests(slurm, "requeued")
    assert len(found) == 1 and found.items() <= here.items()
    assert re.search(r"going on from step [1-9]", log(slurm, "requeued"))
    assert "(start 2 of the job)" in slurm.make("status")


def test_a_node_that_dies_costs_nothing(slurm: Project, here: dict[str, str]) -> None:
    if not os.environ.get("REQUIRE_SLURM") or os.getuid() or not Path("/run/slurmd.pid").exists():
        pytest.skip("this computer's SLURM is not the tests' own (REQUIRE_SLURM)")
    with sweep(slurm, "cluster=slurm", *LONG.split(), "paths.models=models/killed", "seed=5") as process:
        until("training", lambda: trains(slurm, "killed"))
        (number,) = queue(slurm)
        kill_node(slurm)
        until("the return to the queue", lambda: queue(slurm).get(number) != "RUNNING" or process.poll() is not None)
        if number in queue(slurm):
            at_once(number)
        until("the end", lambda: process.poll() is not None, 2 * PLENTY)
        output = process.communicate()[0]
    assert process.returncode == 0 and "1 of 1 run finished" in output, output
    assert digests(slurm, "killed").items() <= here.items() and digests(slurm, "killed")
    assert re.search(r"going on from step [1-9]", log(slurm, "killed"))


def test_a_job_that_starts_on_other_code_refuses(slurm: Project) -> None:
    (code,) = slurm.path.glob("src/*/models/network.py")
    content = code.read_text()
    words = ("cluster=slurm", "+cluster.more.begin=now+300", *SHORT.split(), "paths.models=models/edited", "seed=7")
    try:
        with sweep(slurm, *words) as process:
            until("the submission", lambda: queue(slurm))
            code.write_text(content + "\n# edited\n")
            at_once(next(iter(queue(slurm))))
            until("the end", lambda: process.poll() is not None)
            output = process.communicate()[0]
    finally:
        code.write_text(content)
    assert process.returncode == 1 and "seed=7: the code changed after this run was asked for" in output, output
    assert not list((slurm.path / "models").glob("edited/*/record.json"))
    assert "failed  the code changed" in slurm.make("status")


def test_a_ray_of_two_nodes_gives_the_weights_of_this_computer(cluster: Project, here: dict[str, str]) -> None:
    """One worker is killed; its run goes on in another one."""
    with ray_cluster(cluster, nodes=2) as address:
        words = ("cluster=ray", f"cluster.address={address}", "paths.models=models/ray", *LONG.split())
        with sweep(cluster, *words, "seed=5,6") as process:
            trained = ".train paths.models=models/ray"
            until("training", lambda: process.poll() is not None or trains(cluster, "ray"))
            for training in processes(trained, cluster.path)[:1]:
                os.kill(parent(training), signal.SIGKILL)
            output = process.communicate()[0]
    assert process.returncode == 0 and "2 of 2 runs finished" in output, output
    assert "(start 2)" in cluster.make("status")
    found = digests(cluster, "ray")
    assert len(found) == 2 and len(found.items() & here.items()) == 1
