"""Trainings as processes: at most so many at once, and none takes another one down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from enum import Enum
from pathlib import Path

from ..config import PACKAGE, ROOT
from ..progress import EVERY, LINE
from ..repro.hashing import json_sha256
from ..repro.lock import BUSY

DEAF_TO_CTRL_C = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
GRACE = 20.0  # seconds for a training to save its state after SIGTERM


class State(Enum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class Job:
    """One training in a process of its own.

    Args:
        label: what tells it from the others.
        words: its settings.
        logs: folder for what it prints.
    """

    def __init__(self, label: str, words: Sequence[str], logs: Path) -> None:
        self.label, self.words = label, list(words)
        name = re.sub(r"[^\w=.,+-]+", "_", label)[:100]
        self.log = logs / f"{name}-{json_sha256(self.words)[:8]}.log"
        self.state = State.WAITING
        self.skipped = False  # it had finished before
        self.done = 0.0  # part of its steps, 0 to 1
        self.line = ""  # what it said last
        self.results: list[str] = []
        self.reason = ""
        self.seconds = 0.0
        self.process: subprocess.Popen[str] | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended without a result."""
        return self.state is State.FAILED

    def run(self, stopped: Callable[[], bool]) -> None:
        """Train; where another process trains the same run, wait for it.

        Args:
            stopped: whether to begin no more.
        """
        started = time.monotonic()
        self.state = State.RUNNING
        while not stopped():
            status, lines = self._once()
            busy = next((line for line in lines if BUSY in line), None)
            if status and busy:
                self.line = busy.removeprefix("error: ")
                time.sleep(1)
                continue
            if status and stopped():
                break
            self.seconds = time.monotonic() - started
            self.state = State.FAILED if status else State.FINISHED
            self.reason = reason(status, lines) if status else ""
            return
        self.state, self.line = State.WAITING, ""

    def stop(self) -> None:
        """Ask the training to save its state and end; `run` returns when it has."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def _once(self) -> tuple[int, list[str]]:
        environment = {**os.environ, EVERY: "1", "PYTHONUNBUFFERED": "1"}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lines: list[str] = []
        with self.log.open("w") as log:
            # Of our process group, so that it goes with us where that is killed; but Ctrl-C is for us alone, and we ask
            # it to save its state. A pipe, not the file, so that it does not outlive us unseen.
            self.process = subprocess.Popen(
                [*DEAF_TO_CTRL_C, sys.executable, "-m", f"{PACKAGE.name}.train", *self.words],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            assert self.process.stdout
            for line in self.process.stdout:
                log.write(line)
                lines.append(line.rstrip())
                self._read(line.rstrip())
        return self.process.wait(), lines

    def _read(self, line: str) -> None:
        if match := LINE.match(line):
            epoch, epochs, batch, batches = (int(match[name]) for name in ("epoch", "epochs", "batch", "batches"))
            self.done, self.line = (epoch - 1 + batch / max(1, batches)) / max(1, epochs), line
        elif match := re.match(r"(test/\S+) +(\S+)$", line):
            self.results.append(f"{match[1]} {match[2]}")
        elif line.startswith("These inputs have been trained already"):
            self.skipped = True
        elif match := re.match(r"results +(\S.*)$", line):
            self.line = match[1]


def reason(status: int, lines: Sequence[str]) -> str:
    """Say in one line why a training failed."""
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    if status < 0:
        name = signal.Signals(-status).name
        return f"it was ended by {name}" + (", perhaps for want of memory: try fewer JOBS" if name == "SIGKILL" else "")
    return next((line.strip() for line in reversed(lines) if line.strip()), f"it ended with the status {status}")


class Jobs:
    """All trainings of a sweep.

    Args:
        jobs: in their order.
        most: at once.
    """

    def __init__(self, jobs: Sequence[Job], most: int) -> None:
        self.all = list(jobs)
        self.most = most
        self.stopped = False

    def run(self, update: Callable[[], None]) -> None:
        """Train all; `update` is called some times a second."""
        with ThreadPoolExecutor(self.most) as pool:
            waiting = {pool.submit(job.run, lambda: self.stopped) for job in self.all}
            try:
                while waiting:
                    ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                    update()
                    for future in ended:
                        future.result()  # an error of ours is not to be passed over
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Ask all to save their state and end; after a while, end them."""
        self.stopped = True
        running = [job.process for job in self.all if job.process is not None and job.process.poll() is None]
        for process in running:
            process.terminate()
        until = time.monotonic() + GRACE
        for process in running:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
