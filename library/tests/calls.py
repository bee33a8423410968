"""Commands in process groups of their own, in copies of a project, which may be killed: for command_kills.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import faults
from .project import module

GIT = ("git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")


def make_base(folder: Path) -> Path:
    """Make the folder that is copied for each call: a project, the repository it is pushed to, and DVC's storage."""
    made = faults.project()
    shutil.copytree(made.parent, folder, symlinks=True, dirs_exist_ok=True)
    root = folder / "project"
    config = root / ".dvc/config"
    config.write_text(re.sub(r"url = .*", "url = ../../storage", config.read_text()))
    (folder / "storage").mkdir(exist_ok=True)
    (folder / "tmp").mkdir()
    for line in (
        [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", "fetch"],  # so that a clone has all that it needs
        [*GIT, "add", "--all", ".", ":!models/*/*"],
        [*GIT, "commit", "--quiet", "--message", "Storage beside the project"],
        [*GIT, "clone", "--quiet", "--bare", ".", "../origin.git"],
        [*GIT, "remote", "add", "origin", "../origin.git"],
    ):
        subprocess.run(line, cwd=root, check=True)
    return folder


def git(root: Path, *words: str) -> str:
    """Run git without taking a lock; return what it printed, errors included."""
    line = [*GIT, "--no-optional-locks", *words]
    done = subprocess.run(line, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.strip() + (f" (status {done.returncode})" if done.returncode else "")


class Call:
    """A command in a process group of its own, forked from this process."""

    def __init__(self, folder: Path, words: Sequence[str], planted: bool = False, cwd: str = "project") -> None:
        self.folder, self.root = folder, folder / cwd
        self.output = Path(tempfile.mkdtemp(prefix="said-"))
        for name in ("out", "err"):
            (self.output / name).touch()
        run = os.path.relpath(faults.find(self.root, faults.GOOD), self.root) if "RUN" in words else ""
        line = [run if word == "RUN" else word for word in words]
        sys.stdout.flush()
        self.status: int | None = None
        self.pid = os.fork()
        if not self.pid:
            faults.forked(self.root, line, self.output, lambda: prepare(folder / "tmp", planted))

    def ended(self) -> bool:
        """Whether the command itself has ended."""
        if self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if ended else None
        return self.status is not None

    def others(self) -> list[int]:
        """List the processes of the group that live, but for the command itself."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, group, *_ = path.read_text().rpartition(")")[2].split()
                if int(group) == self.pid and state != "Z" and int(path.parent.name) != self.pid:
                    found.append(int(path.parent.name))
        return found

    def send(self, number: int, to_all: bool = True) -> None:
        """Send a signal to all processes of the group, or to the command alone."""
        with suppress(ProcessLookupError):
            try:
                os.killpg(self.pid, number) if to_all else os.kill(self.pid, number)
            except ProcessLookupError:  # it has not made its group yet
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; False where it hangs, and is killed."""
        until = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > until:
                self.send(signal.SIGKILL)
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                return False
            time.sleep(0.005)
        return True

    def said(self) -> str:
        return "".join((self.output / name).read_text(errors="replace") for name in ("out", "err"))

    def close(self) -> None:
        """End what is left of the group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        shutil.rmtree(self.output, ignore_errors=True)


def prepare(folder: Path, planted: bool) -> None:
    """Give the command a folder of its own for temporary files; where that is wanted, have it write in two steps."""
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    if planted:
        for name in ("samebits.engine.files", "samebits.bundle.archive"):
            module(name).replace_atomically = write_in_two_steps


def write_in_two_steps(path: Path, write: Callable[[Any], Any]) -> None:
    """Take the place of `replace_atomically`: a file is there half written for a while."""
    whole = path.with_name(f"{path.name}.whole")
    with whole.open("wb") as file:
        write(file)
    content = whole.read_bytes()
    whole.unlink()
    with path.open("wb", buffering=0) as file:
        for part in (content[: len(content) // 2], content[len(content) // 2 :]):
            file.write(part)
            time.sleep(0.05)
