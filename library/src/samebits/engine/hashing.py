"""Hashes of files, folders and settings; large files that have not changed are not read again; secrets are left out.

A file is taken to be unchanged while all that the system notes of it is: device, number, size, and the times of the
last change of its content (mtime) and of these notes themselves (ctime). The latter cannot be set back, so an edit that
restores the file's date is seen. A file that has just changed is not remembered: it could change once more within the
same tick of the clock. Verdicts do not look there; they read every byte.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """Hash a file's whole content; hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path, paths: Iterable[Path], hash_file: Callable[[Path], str] = file_sha256) -> dict[str, str]:
    """Hash each file, named by its path relative to `folder`, with / on every system, sorted."""
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(paths)}


def present_sha256(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Hash those of the named files that are in the folder."""
    return {name: file_sha256(folder / name) for name in names if (folder / name).is_file()}


def json_sha256(value: Any) -> str:
    """Hash a value made of dicts, lists, strings, numbers, booleans and None; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def bytes_sha256(content: bytes) -> str:
    """Hash bytes; hexadecimal."""
    return hashlib.sha256(content).hexdigest()


HASHES = Path(".cache/hashes.json")  # in the project's folder
SETTLED = 10.0  # seconds since a file's last change; the clocks of two computers may disagree by some of them
Notes = list[int]
Known = dict[str, tuple[Notes, str]]


@contextmanager
def hash_cache(path: Path) -> Iterator[Callable[[Path], str]]:
    """Give a function that hashes a file, as `file_sha256`, unless its hash is known.

    Args:
        path: of the file in which hashes are kept; one that is damaged, or cannot be written, is done without.
    """
    before = _read(path)
    known = dict(before)

    def hash_file(file: Path) -> str:
        name, now = str(file.resolve()), _notes(file)
        if name in known and known[name][0] == now:
            return known[name][1]
        known.pop(name, None)
        begin = time.time()
        sha256 = file_sha256(file)
        if now == _notes(file) and _settled(file, begin):
            known[name] = (now, sha256)
        return sha256

    yield hash_file
    if known != before:
        with suppress(OSError):
            _write(path, {name: each for name, each in known.items() if Path(name).exists()})


def _notes(file: Path) -> Notes:
    found = file.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _settled(file: Path, now: float) -> bool:
    found = file.stat()
    changes_are_noted = sys.platform != "win32"  # which has the time of creation in the place of ctime
    return changes_are_noted and max(found.st_mtime, found.st_ctime) < now - SETTLED


def _read(path: Path) -> Known:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        files: dict[str, Any] = kept["files"]
        if kept["sha256"] != json_sha256(files):
            return {}
        return {name: (notes, sha256) for name, (notes, sha256) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(path: Path, known: Known) -> None:
    """Write a file of its own, which then takes the name: other processes may do the same at this moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {name: list(each) for name, each in known.items()}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8") as new:
        json.dump({"sha256": json_sha256(files), "files": files}, new)
    Path(new.name).replace(path)


HIDDEN = "***"
LOGIN = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")  # user:password of an address
WORDS = "token|key|secret|passw|signature|sig|credential|auth"
QUERY = re.compile(rf"(?i)([?&][^=&#\s'\"]*(?:{WORDS})[^=&#\s'\"]*=)[^&#\s'\"]+")


def redact(value: Any) -> Any:
    """Replace logins and secret parameters of addresses by ***, in a text or in nested dicts and lists of texts."""
    if isinstance(value, dict):
        return {key: redact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [redact(each) for each in value]
    if isinstance(value, str):
        return QUERY.sub(rf"\1{HIDDEN}", LOGIN.sub(HIDDEN, value))
    return value
