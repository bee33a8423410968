"""Writing files so that they are there whole or not at all, and reading them so that damage is noticed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

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
