"""What shows that a file was written to its end, by the kind of file; and what a folder holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import zipfile
from pathlib import Path

import yaml
from safetensors import safe_open

ENDS = {".html": b"</html>", ".svg": b"</svg>", ".png": b"IEND\xaeB`\x82", ".gz": b""}
OBJECT = re.compile(r"files/md5/([0-9a-f]{2})/([0-9a-f]{30}(?:\.dir)?)$")  # named by its content, in DVC's storage


def half_written(path: Path) -> str:
    """Return what shows that a file is not whole; empty where nothing does."""
    try:
        return _fault(path)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, sqlite3.Error, yaml.YAMLError) as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # safetensors has one of its own
        return f"{type(error).__name__}: {error}"


def _fault(path: Path) -> str:
    if match := OBJECT.search(path.as_posix()):
        name = hashlib.md5(path.read_bytes()).hexdigest()
        return "" if name == (match[1] + match[2]).removesuffix(".dir") else "its content is not what its name says"
    if path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return f"{damaged} in it is damaged" if (damaged := archive.testzip()) else ""
    elif path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            list(file.keys())
    elif path.suffix == ".db":
        with sqlite3.connect(f"file:{path}?mode=rw", uri=True) as database:
            (found,) = database.execute("PRAGMA integrity_check").fetchone()
            return "" if found == "ok" else found
    elif path.suffix in (".yaml", ".dvc"):
        return "" if yaml.safe_load(path.read_text()) else "it is empty"
    else:
        content = path.read_bytes()
        if not content.rstrip().endswith(ENDS.get(path.suffix, b"")):
            return f"it does not end with {ENDS[path.suffix]!r}"
        if path.suffix in (".md", ".csv", ".tex", ".jsonl", ".patch") and not content.endswith(b"\n"):
            return "its last line is cut"
    return ""


def hashes(folder: Path) -> dict[str, str]:
    """Hash each file in a folder and below; links are hashed as what they say."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(parent, name)
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


Listing = frozenset[tuple[str, int, int]]


def listing(folder: Path) -> Listing:
    """List each file in a folder and below with size and time, as it is at this instant; Git's objects are left out."""
    found: list[tuple[str, int, int]] = []
    stack = [str(folder)]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in ("objects", "src", "configs", "raw"):
                            stack.append(entry.path)
                    else:
                        seen = entry.stat(follow_symlinks=False)
                        found.append((entry.path, seen.st_mtime_ns, seen.st_size))
        except FileNotFoundError:  # gone since
            continue
    return frozenset(found)
