"""Starts the processes of one training on this machine, and ends all of them when one fails.

On clusters, SLURM's srun or torchrun does the same on several machines.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from .leaving import INTERRUPTED, LEAVE, RESUME_LATER
from .ranks import PEER_LOST, RENDEZVOUS

LEASH = "LAUNCHER_PIPE"  # environment variable: number of the pipe that closes when the launcher ends
MOMENT = 3.0  # seconds for the others to notice by themselves that one has ended
GRACE = 60.0  # seconds for all to save their state, after one has


class Processes:
    """The processes of one training.

    Args:
        command: each is started by it.
        folder: the working directory.
        environment: its variables.
        world: how many.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], world: int) -> None:
        self.command, self.folder, self.environment, self.world = list(command), folder, environment, world
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ended: dict[int, int] = {}  # rank: status, in the order of their end
        self.killed: set[int] = set()  # by us

    def run(self) -> int:
        """Wait until all have ended, and return the exit status; say what was wrong."""
        with tempfile.TemporaryDirectory() as scratch:
            pipe, leash = os.pipe()
            self.scratch = Path(scratch)
            before = {number: signal.signal(number, self._pass_on) for number in LEAVE}
            try:
                self.processes = [self._start(rank, pipe) for rank in range(self.world)]
                os.close(pipe)
                self._wait()
            finally:
                for process in self.processes:
                    process.kill()
                    process.wait()
                os.close(leash)
                for number, handler in before.items():
                    signal.signal(number, handler)
            return self._verdict()

    def _start(self, rank: int, pipe: int) -> subprocess.Popen[bytes]:
        """Start one; what others than the first say is kept until it is of interest."""
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": self.world, LEASH: pipe}
        environment = {**self.environment} | {name: str(value) for name, value in numbers.items()}
        environment[RENDEZVOUS] = str(self.scratch / "rendezvous")
        with self._said(rank).open("wb") as said:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else said,
                pass_fds=[pipe],
            )

    def _said(self, rank: int) -> Path:
        return self.scratch / f"{rank}.err"

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def _wait(self) -> None:
        """Wait for all; not for long, once one has failed."""
        until = None
        while len(self.ended) < self.world:
            try:
                time.sleep(0.05)
                for rank, process in enumerate(self.processes):
                    if rank not in self.ended and process.poll() is not None:
                        self.ended[rank] = process.returncode
                if until is None and any(self.ended.values()):
                    until = time.monotonic() + (GRACE if RESUME_LATER in self.ended.values() else MOMENT)
                if until is not None and time.monotonic() > until:
                    self.killed = set(range(self.world)) - set(self.ended)
                    for rank in self.killed:
                        self.processes[rank].kill()
                        self.ended[rank] = self.processes[rank].wait()
            except KeyboardInterrupt:  # they have got it, too
                until = time.monotonic() + MOMENT

    def _verdict(self) -> int:
        """Find the process that failed first, and say so."""
        failed = {rank: status for rank, status in self.ended.items() if status and rank not in self.killed}
        for status in (RESUME_LATER, INTERRUPTED):
            if status in failed.values():
                return status
        if not failed:
            return 0 if not self.killed else 1
        causes = {rank: status for rank, status in failed.items() if status != PEER_LOST} or failed
        rank = min(causes, key=lambda each: (causes[each] >= 0, each))  # one that a signal has ended, if any has
        status = causes[rank]
        if rank:
            sys.stderr.write(self._said(rank).read_text(errors="replace"))
        if status == 2:  # a user's mistake, which it has explained
            return status
        if self.ended.get(0) == 0:  # the first one writes everything, and has done so
            print(f"warning: process {rank} ended badly, after all was written.", file=sys.stderr)
            return 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with the status {status}"
        print(
            f"error: process {rank} (of {self.world}, counted from 0) {how}, so the others were stopped: the same"
            " command goes on from the last checkpoint, and with determinism.shards also in another number.",
            file=sys.stderr,
        )
        return 1


def follow_launcher() -> None:
    """End this process when its launcher ends, however that ends: nobody would watch over it."""
    leash = os.environ.get(LEASH)
    if leash is None:
        return

    def wait() -> None:
        os.read(int(leash), 1)
        os._exit(PEER_LOST)

    threading.Thread(target=wait, daemon=True).start()
