"""Files that are there whole or not at all, that grow while a run trains, and that one process at a time may use."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .distributed import is_first
from .errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # OSError.errno where there is no room for a file
SEAL = hashlib.sha256().digest_size  # bytes after the content of a sealed file


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even if the machine stops in between."""
    replace_atomically(path, lambda file: file.write(content))


def write_sealed(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file in the same way, with the sha256 of its content at its end.

    Args:
        path: of the file.
        write: called with an object that has a `write` method; called once.
    """

    def write_and_seal(file: IO[bytes]) -> None:
        sealing = _Sealing(file)
        write(sealing)
        if sealing.error:
            raise sealing.error
        file.write(sealing.sha256.digest())

    replace_atomically(path, write_and_seal)


def is_sealed(path: Path) -> bool:
    """Whether a file is there, whole and unchanged since `write_sealed`."""
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size - SEAL
            sha256 = hashlib.sha256()
            while left > 0 and (block := file.read(min(left, 2**20))):
                sha256.update(block)
                left -= len(block)
            return left == 0 and file.read() == sha256.digest()
    except OSError:
        return False


class _Sealing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None  # kept back: torch.save turns it into one that does not name the cause

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        self.file.flush()


def replace_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write beside the file, force it to the disk, and only then let it take the file's name.

    Args:
        path: of the file.
        write: called with the open file beside it; called once.
    """
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too, is on the disk now
    finally:
        os.close(folder)


class AppendLog:
    """Knows how long the file is and what it holds, so that a checkpoint can say where to go on.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written_here = is_first()  # of several processes of one training, the others only keep count
        self.length = 0  # bytes
        self.sha256 = hashlib.sha256()

    def start(self, content: bytes = b"") -> None:
        """Begin anew."""
        if self.written_here:
            self.path.write_bytes(b"")
        self.length, self.sha256 = 0, hashlib.sha256()
        self.append(content)

    def append(self, content: bytes) -> None:
        """Write at the end."""
        if self.written_here:
            with self.path.open("ab") as file:
                file.write(content)
        self.length += len(content)
        self.sha256.update(content)

    def position(self) -> dict[str, Any]:
        """Tell how much there is, for a checkpoint; it is on the disk then."""
        if self.written_here and self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return {"length": self.length, "sha256": self.sha256.hexdigest()}

    def rewind(self, position: dict[str, Any]) -> None:
        """Forget what was written after that position: the run will write it again.

        Raises:
            UserError: what was written before has changed.
        """
        if not self.written_here:
            return
        content = self.path.read_bytes()[: position["length"]] if self.path.exists() else b""
        self.length, self.sha256 = len(content), hashlib.sha256(content)
        if self.sha256.hexdigest() != position["sha256"]:
            raise UserError(
                f"{self.path} is missing, or not what the run had written before it was cut off: move the folder"
                f" {self.path.parent / 'checkpoints'} away, and the same command trains from the beginning."
            )
        if self.path.exists():
            with self.path.open("rb+") as file:
                file.truncate(self.length)


BUSY = "is being trained by"


@contextmanager
def only_process(path: Path, what: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends.

    A lock of the process (POSIX, `lockf`), which unlike one of the file (`flock`) does not live on in the processes
    that load data; it holds across containers and, where the file system supports it, across machines.

    Args:
        path: the lock's own file, which stays.
        what: is being locked, for the message.

    Raises:
        UserError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(
                    f"{what} {BUSY} {holder}: wait until it has ended, or stop it and start this again."
                ) from None
            print(f"warning: {path.parent} cannot be locked ({error.strerror}): start no run twice.", file=sys.stderr)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
