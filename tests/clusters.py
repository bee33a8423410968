"""SLURM and Ray on this computer, for the tests: what is in the queue, who trains, a node that dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from .conftest import Project, free_port

PLENTY = 90.0  # seconds in which anything here happens, or something hangs
MISSED = (
    22.0  # seconds after its start in which SLURM does not miss a job that is not there (BatchStartTimeout and more)
)


def require_slurm() -> None:
    """Skip without a SLURM that answers, but fail where it must be there."""
    found = shutil.which("sbatch") and subprocess.run(["sinfo"], capture_output=True).returncode == 0
    if not found and os.environ.get("REQUIRE_SLURM"):
        pytest.fail("REQUIRE_SLURM is set, but no SLURM answers")
    if not found:
        pytest.skip("no SLURM answers")


def until(what: str, happened: Callable[[], object], seconds: float = PLENTY) -> None:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:.0f} s"
        time.sleep(0.1)


def queue(project: Project) -> dict[str, str]:
    """List the jobs of a project that wait or run, by their numbers, with their states."""
    printed = subprocess.run(["squeue", "-h", "-o", "%i|%T|%Z"], capture_output=True, text=True, check=True).stdout
    rows = [line.split("|", 2) for line in printed.splitlines()]
    return {row[0]: row[1] for row in rows if row[2] == str(project.path)}


def at_once(number: str) -> None:
    """Let a job that was queued again begin: SLURM by itself waits for two minutes."""

    def begins() -> bool:
        subprocess.run(["scontrol", "update", f"JobId={number}", "StartTime=now"], capture_output=True)
        shown = subprocess.run(["squeue", "-h", "-j", number, "-o", "%T"], capture_output=True, text=True).stdout
        return shown.strip() in ("RUNNING", "")

    until(f"the start of job {number}", begins)


def requeue(number: str) -> None:
    """Take a job from its node, and put it into the queue again."""
    subprocess.run(["scontrol", "requeue", number], check=True)
    until("the end of the job's processes", lambda: state(number) == "PENDING")
    at_once(number)


def state(number: str) -> str:
    """The state of a job."""
    return subprocess.run(["squeue", "-h", "-j", number, "-o", "%T"], capture_output=True, text=True).stdout.strip()


def processes(words: str, folder: Path) -> list[int]:
    """Find the processes whose command line holds `words` and that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if words in command and (entry / "cwd").readlink() == folder:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def parent(process: int) -> int:
    """Find the process that started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def kill_node(project: Project) -> None:
    """Kill SLURM's daemon of this computer, what watches over the project's jobs, and the jobs, and start it again."""
    slurmd = int(Path("/run/slurmd.pid").read_text())
    jobs = queue(project)
    doomed = [slurmd]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            variables = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(f"SLURM_JOB_ID={job}" in variables or f"slurmstepd: [{job}." in command for job in jobs):
            doomed.append(int(entry.name))
    doomed += processes("-m handwritten_digits.train", project.path)  # SLURM's variables are not handed on to it
    for process in doomed:
        if Path(f"/proc/{process}").exists():
            os.kill(process, signal.SIGKILL)
    until("the end of slurmd", lambda: not Path(f"/proc/{slurmd}").exists())
    time.sleep(MISSED)
    subprocess.run(["slurmd", "-N", "localhost"], check=True, start_new_session=True)


@contextmanager
def ray_cluster(project: Project, nodes: int) -> Iterator[str]:
    """Start a Ray of so many nodes with one processor each, on this computer's own address, and give its address."""
    address = f"127.0.0.1:{free_port()}"
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", "--disable-usage-stats"]
    if not (Path.home() / ".ray/auth_token").exists():
        project.run(".venv/bin/ray", "get-auth-token", "--generate")
    started = []
    try:
        for number in range(1, nodes + 1):
            started.append(ray_node(project, head if number == 1 else [f"--address={address}"]))
            until(f"the start of Ray's node {number}", partial(has_nodes, project, address, number))
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def ray_node(project: Project, where: list[str]) -> subprocess.Popen[bytes]:
    """Start one node of Ray."""
    return subprocess.Popen(
        [".venv/bin/ray", "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", *where],
        cwd=project.path,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def has_nodes(project: Project, address: str, count: int) -> bool:
    """Whether Ray answers, and has so many nodes."""
    code = f"import ray; ray.init({address!r}, log_to_driver=False); print(sum(n['Alive'] for n in ray.nodes()))"
    words = [".venv/bin/python", "-c", code]
    environment = os.environ | {"RAY_AUTH_MODE": "token"}
    done = subprocess.run(words, cwd=project.path, env=environment, capture_output=True, text=True)
    return done.stdout.strip() == str(count)
