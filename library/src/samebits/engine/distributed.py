"""The processes of one training: how many there are to be, which of them this one is, and how they are started.

They are started here, on this machine, or by torchrun or SLURM's srun on several; each tells them by environment
variables. The first one, of rank 0, writes everything; the others only compute.
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
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from .errors import INTERRUPTED, RESUME_LATER, STOP_SIGNALS, UserError

RENDEZVOUS = "RENDEZVOUS_FILE"  # set by our own launcher: where the processes of one machine find each other
PEER_LOST = 76  # exit status: another process of the training has ended


@dataclass(frozen=True)
class Rank:
    """One of the processes of a training.

    Attributes:
        rank: from 0 on, over all nodes.
        world_size: how many processes there are, on all nodes.
        local_rank: from 0 on, on this node.
        node_rank: from 0 on.
        launcher: `none`, `samebits`, `torchrun` or `srun`.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    node_rank: int = 0
    launcher: str = "none"


def current_rank() -> Rank:
    """Return which process this is."""
    get = os.environ.get
    if get("RANK", "").isdecimal() and get("LOCAL_RANK") and get("WORLD_SIZE"):
        names, launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK"), "torchrun"
        launcher = "samebits" if RENDEZVOUS in os.environ else launcher
    elif int(get("SLURM_STEP_NUM_TASKS", "1")) > 1:  # a step is what srun starts; a batch script has none
        names, launcher = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID"), "srun"
    else:
        return Rank()
    rank, world_size, local_rank, node_rank = (int(get(name, "0")) for name in names)
    return Rank(rank, world_size, local_rank, node_rank, launcher)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return current_rank().rank == 0


def wanted_processes(cfg: Mapping[Any, Any]) -> int:
    """Say how many processes the settings ask for: `trainer.devices` on each of `trainer.num_nodes`."""
    trainer = cfg.get("trainer") or {}
    devices: Any = trainer.get("devices")
    on_a_node = len(devices) if isinstance(devices, ListConfig | list) else int(devices or 1)
    return on_a_node * int(trainer.get("num_nodes") or 1)


def number_of_shards(cfg: Mapping[Any, Any]) -> int:
    """Say into how many shards each batch is split: `determinism.shards`, or else one for each process."""
    return int(cfg["determinism"].get("shards") or wanted_processes(cfg))


def require_match(cfg: DictConfig) -> None:
    """Refuse to go on where another number of processes was started than the settings ask for."""
    rank, nodes = current_rank(), int(OmegaConf.select(cfg, "trainer.num_nodes") or 1)
    if rank.launcher == "none" and nodes > 1:
        raise UserError(
            f"trainer.num_nodes={nodes} needs SLURM's srun or torchrun on each node, which start the processes there:"
            " for this computer alone, say how many processes by trainer.devices."
        )
    if rank.launcher != "none" and rank.world_size != wanted_processes(cfg):
        raise UserError(
            f"{rank.launcher} has started {rank.world_size} processes, but trainer.devices and trainer.num_nodes ask"
            f" for {wanted_processes(cfg)}: make them the same (one device is one process)."
        )


PIPE = "LAUNCHER_PIPE"  # environment variable: number of the pipe that closes when the launcher ends
NOTICE_SECONDS = 3.0  # for the others to notice by themselves that one has ended
SAVE_SECONDS = 60.0  # for all to save their state, after one has


class Processes:
    """Starts the processes of one training, each by the same command in the same folder; ends all if one fails."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], world_size: int) -> None:
        self.command, self.folder, self.environment, self.world_size = list(command), folder, environment, world_size
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ended: dict[int, int] = {}  # rank: status, in the order of their end
        self.killed: set[int] = set()  # by us

    def run(self) -> int:
        """Wait until all have ended, and return the exit status; say what was wrong."""
        with tempfile.TemporaryDirectory() as scratch:
            pipe, pipe_end = os.pipe()
            self.scratch = Path(scratch)
            before = {number: signal.signal(number, self._forward_signal) for number in STOP_SIGNALS}
            try:
                self.processes = [self._start(rank, pipe) for rank in range(self.world_size)]
                os.close(pipe)
                self._wait()
            finally:
                for process in self.processes:
                    process.kill()
                    process.wait()
                os.close(pipe_end)
                for number, handler in before.items():
                    signal.signal(number, handler)
            return self._exit_status()

    def _start(self, rank: int, pipe: int) -> subprocess.Popen[bytes]:
        """Start one; what others than the first write to stderr is kept, in case that they fail."""
        variables: dict[str, Any] = {PIPE: pipe, RENDEZVOUS: self.scratch / "rendezvous"}
        variables |= {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": self.world_size}
        with (self.scratch / f"{rank}.err").open("wb") as stderr:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**self.environment, **{name: str(value) for name, value in variables.items()}},
                stdin=subprocess.DEVNULL,
                stdout=None if rank == 0 else subprocess.DEVNULL,
                stderr=None if rank == 0 else stderr,
                pass_fds=[pipe],
            )

    def _forward_signal(self, number: int, frame: FrameType | None) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def _wait(self) -> None:
        """Wait for all; not for long, once one has failed."""
        until = None
        while len(self.ended) < self.world_size:
            try:
                time.sleep(0.05)
                for rank, process in enumerate(self.processes):
                    if rank not in self.ended and process.poll() is not None:
                        self.ended[rank] = process.returncode
                if until is None and any(self.ended.values()):
                    until = time.monotonic() + (SAVE_SECONDS if RESUME_LATER in self.ended.values() else NOTICE_SECONDS)
                if until is not None and time.monotonic() > until:
                    self.killed = set(range(self.world_size)) - set(self.ended)
                    for rank in self.killed:
                        self.processes[rank].kill()
                        self.ended[rank] = self.processes[rank].wait()
            except KeyboardInterrupt:  # they have got it, too
                until = time.monotonic() + NOTICE_SECONDS

    def _exit_status(self) -> int:
        """Find the process that failed first, and say so."""
        failed = {rank: status for rank, status in self.ended.items() if status and rank not in self.killed}
        for status in (RESUME_LATER, INTERRUPTED):
            if status in failed.values():
                return status
        if not failed:
            return int(bool(self.killed))
        causes = {rank: status for rank, status in failed.items() if status != PEER_LOST} or failed
        rank = min(causes, key=lambda each: (causes[each] >= 0, each))  # one that a signal has ended, if any has
        status = causes[rank]
        if rank:
            sys.stderr.write((self.scratch / f"{rank}.err").read_text(errors="replace"))
        if status == 2:  # a user's mistake, which it has explained
            return status
        if self.ended.get(0) == 0:  # the first one writes everything, and has done so
            print(f"warning: process {rank} ended badly, after all was written.", file=sys.stderr)
            return 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with the status {status}"
        print(
            f"error: process {rank} (of {self.world_size}, counted from 0) {how}, so the others were stopped: the same"
            " command goes on from the last checkpoint, and with determinism.shards also in another number.",
            file=sys.stderr,
        )
        return 1


def follow_launcher() -> None:
    """End this process when its launcher ends, however that ends: nobody would watch over it."""
    pipe_end = os.environ.get(PIPE)
    if pipe_end is None:
        return

    def wait() -> None:
        os.read(int(pipe_end), 1)
        os._exit(PEER_LOST)

    threading.Thread(target=wait, daemon=True).start()
