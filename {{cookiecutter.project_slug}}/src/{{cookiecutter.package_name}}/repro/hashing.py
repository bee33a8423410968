"""Fingerprints of what a run reads: files, folders and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
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
