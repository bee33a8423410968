"""A file that grows while a run trains, and goes on without a seam where the run was cut off."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from .ranks import is_first


class GrowingFile:
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
