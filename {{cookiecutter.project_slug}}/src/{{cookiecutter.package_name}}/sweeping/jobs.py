"""Trainings at once: at most so many, and none takes another one down."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

from ..errors import UserError
from ..progress import LINE, part_done
from ..repro.hashing import json_sha256
from ..repro.lock import BUSY
from ..repro.record import RECORD
from . import notes
from .local import Local
from .places import Place
from .state import State
from .training import Training, file_name

GRACE = 20.0  # seconds for a training to save its state after it was asked to


class Job:
    """One training.

    Args:
        label: what tells it from the others.
        words: its settings.
        logs: folder for what it prints, and for what is remembered of it.
        place: where it is trained; None for a process of this computer.
        training: what is known of it beyond its words.
    """

    def __init__(
        self,
        label: str,
        words: Sequence[str],
        logs: Path,
        place: Place | None = None,
        training: Training | None = None,
    ) -> None:
        self.label, self.words = label, list(words)
        if training is None:
            name = file_name(label, json_sha256(self.words)[:8])
            training = Training(name, self.words, logs / f"{name}.log")
        self.training = training
        self.place = place or Local()
        self.log = training.log
        self.state = State.WAITING
        self.skipped = False  # it had finished before
        self.done = 0.0  # part of its steps, 0 to 1
        self.line = ""  # what is to be shown of it
        self.last = ""  # what it said last of how far it is
        self.results: list[str] = []
        self.reason = ""
        self.seconds = 0.0
        self.asked_to_stop = False
        directory = str(training.directory or "")
        self.note = notes.Note(label, self.words, self.place.cluster, directory, str(self.log), pid=os.getpid())

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
        while not (stopped() or self.asked_to_stop):
            self.begin_anew()
            try:
                status, why = self.place.train(self)
            except UserError as error:  # it was refused before it began, and so is the sweep
                self.reason = str(error)
                self.tell(State.FAILED, "")
                raise
            why = (why or reason(status, self.lines)) if status else ""
            if status and (stopped() or self.asked_to_stop):
                break
            if BUSY in why:
                self.tell(State.RUNNING, why)
                time.sleep(1)
                continue
            self.seconds = self._trained_for() or time.monotonic() - started
            self.reason = why
            self.tell(State.FAILED if status else State.FINISHED, self.line)
            return
        self.tell(State.STOPPED if self.asked_to_stop else State.WAITING, "")

    def _trained_for(self) -> float | None:
        """Read how long the run was trained, in all its starts; None where it has no record."""
        directory = self.training.directory
        known = directory and (directory / RECORD).exists()
        observed = json.loads((directory / RECORD).read_text())["observed"] if directory and known else {}
        return observed.get("wall_seconds")

    def stop(self) -> None:
        """Ask this one training to save its state and end; `run` then returns, with the state STOPPED."""
        self.asked_to_stop = True
        self.place.stop()

    # --- what the place calls

    def tell(self, state: State, line: str) -> None:
        """Take in where it is, and write it down where that changed."""
        self.line = line
        if (state, state.value, self.reason) != (self.state, self.note.state, self.note.reason):
            self.state = state
            self.remember()

    def heard(self, line: str) -> None:
        """Take in a line that the training has printed."""
        self.lines.append(line)
        if match := LINE.match(line):
            self.done = part_done(match)
            self.line = self.last = line
        elif found := notes.results([line]):
            self.results += found
        elif line.startswith("These inputs have been trained already"):
            self.skipped = True
        elif match := re.match(r"results +(\S.*)$", line):
            self.line = self.last = match[1]

    def begin_anew(self) -> None:
        """Forget what was heard."""
        self.lines: list[str] = []
        self.results, self.last = [], ""

    def remember(self) -> None:
        """Write down where it is."""
        self.note.state, self.note.reason = self.state.value, self.reason
        notes.write(self.log.with_suffix(".json"), self.note)


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
        """Begin no more; ask those of this computer to save their state and end, and after a while, end them."""
        self.stopped = True
        for job in self.all:
            job.place.leave()
        until = time.monotonic() + GRACE
        while any(job.place.busy for job in self.all) and time.monotonic() < until:
            time.sleep(0.05)
        for job in self.all:
            job.place.end()
