"""Hash a file of 256 MB: bytes in memory by sha256 alone, the file by the project, and once more; print the seconds."""

import hashlib
import os
import tempfile
import time
from pathlib import Path

from samebits.engine import files
from samebits.engine.inputs import data_sha256

MEGABYTE = os.urandom(2**20)
files.SETTLED = -1.0  # as if the file had been there for a while


def seconds(task) -> float:
    """Time it."""
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


def alone() -> None:
    """Hash what is in memory."""
    sha256 = hashlib.sha256()
    for _ in range(256):
        sha256.update(MEGABYTE)


with tempfile.TemporaryDirectory() as folder:
    data, notes = Path(folder) / "data", Path(folder) / "hashes.json"
    data.mkdir()
    (data / "file").write_bytes(MEGABYTE * 256)

    def project() -> None:
        """Hash as a training does."""
        with files.hash_cache(notes) as hash_file:
            data_sha256(data, hash_file)

    print(seconds(alone), seconds(project), seconds(project))
