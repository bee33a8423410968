"""A SLURM cluster and a Ray cluster on this computer, for the tests: what is in the queue, who trains, a node that dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Project, free_port

PLENTY = 90.0  # seconds in which anything here happens, or something hangs


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
    """Kill SLURM's daemon of this computer, what watches over the project's jobs, and the jobs; start the daemon again."""
    slurmd = int(Path("/run/slurmd.pid").read_text())
    jobs = queue(project)
    doomed = [slurmd]
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            of_ours = b"\0SLURM_JOB_ID=" in (entry / "environ").read_bytes() and (
                any(
                    f"SLURM_JOB_ID={number}".encode() in (entry / "environ").read_bytes().split(b"\0")
                    for number in jobs
                )
            )
        except OSError:
            continue
        if of_ours or any(f"slurmstepd: [{number}." in command for number in jobs):
            doomed.append(int(entry.name))
    for process in doomed:
        with_none_left = Path(f"/proc/{process}").exists()
        if with_none_left:
            os.kill(process, signal.SIGKILL)
    until("the end of slurmd", lambda: not Path(f"/proc/{slurmd}").exists())
    subprocess.run(["slurmd", "-N", "localhost"], check=True, start_new_session=True)


@contextmanager
def ray_cluster(project: Project, nodes: int) -> Iterator[str]:
    """Start a Ray of so many nodes with one processor each, on this computer's own address; return its address."""
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    started = []
    try:
        for number in range(nodes):
            where = ["--head", f"--port={address.rpartition(':')[2]}"] if number == 0 else [f"--address={address}"]
            words = [".venv/bin/ray", "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1"]
            words += ["--include-dashboard=false", "--disable-usage-stats"] if number == 0 else []
            started.append(
                subprocess.Popen(
                    [*words, *where],
                    cwd=project.path,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
            code = f"import ray; ray.init('{address}', log_to_driver=False); print(len(ray.nodes()))"
            until(
                "the start of Ray",
                lambda: (
                    subprocess.run(
                        [".venv/bin/python", "-c", code],
                        cwd=project.path,
                        env=environment,
                        capture_output=True,
                        text=True,
                    ).stdout.strip()
                    == str(number + 1)
                ),
            )
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
