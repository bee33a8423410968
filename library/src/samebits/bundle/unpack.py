"""Unpack a bundle that anybody may have made: plain files in one new folder, or nothing. None of it is run."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import opened
from ..engine.printing import printable
from .archive import BLOCK, parts_of
from .crate import METADATA

MOST = 20  # GB that a bundle may become without being asked for
WAYS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
TOP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,=+-]*")  # the one folder of a bundle
# of any system: what leads elsewhere, names a device or another stream, or ends in what Windows takes away
ELSEWHERE = re.compile(r'|\.\.?|.*[\\:*?"<>|].*|.*[ .]|(?i:(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?)')
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def main(arguments: argparse.Namespace) -> None:
    """Unpack a bundle, and print what comes next."""
    folder, number, size = unpack(arguments.bundle, arguments.folder, arguments.most)
    print(f"{os.path.relpath(folder)}: {number} files, {size:,} bytes; nothing of it was run")
    print("Next: read its README.md. To reproduce it is to run the code of whoever made it: if you do not know them,")
    print("let a container do it, without a network, as the README says first.")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(description="Unpack a bundle, after looking at what is in it; nothing is run.")
    described.add_argument("bundle", type=Path, help="a zip that `samebits bundle` made, or one of its parts")
    described.add_argument("folder", nargs="?", type=Path, default=Path(), help="where to (default: here)")
    text = f"that its files may have in all (default: {MOST})"
    described.add_argument("--most", type=float, default=MOST, metavar="GB", help=text)
    return described


def unpack(path: Path, into: Path, most: float = MOST) -> tuple[Path, int, int]:
    """Unpack a bundle into a new folder within `into`.

    Args:
        path: of the zip; of one of its parts, beside which the others are.
        into: a folder, made if need be.
        most: GB that the files may have in all.

    Returns:
        The new folder, how many files are in it, and their bytes.

    Raises:
        UserError: it is no bundle, has what no bundle has, is too large, or its folder is there already.
    """
    try:
        with ExitStack() as stack:
            archives = [zipfile.ZipFile(stack.enter_context(opened(part))) for part in _parts(path)]
            entries = [entry for archive in archives for entry in archive.infolist()]
            top = _look_at(path, entries)
            size, target = sum(entry.file_size for entry in entries), into / top
            if size > most * 1e9:
                raise UserError(f"{path} would become {size / 1e9:,.1f} GB: samebits unpack --most <GB> allows it.")
            if os.path.lexists(target):
                raise UserError(f"{target} is there already: move it away, or name another folder.")
            into.mkdir(parents=True, exist_ok=True)
            if size > (free := shutil.disk_usage(into).free):
                raise UserError(
                    f"{path} would become {size / 1e9:,.1f} GB, and {into} has {free / 1e9:,.1f}: make room."
                )
            with tempfile.TemporaryDirectory(prefix=".unpack-", dir=into) as folder:
                for archive in archives:
                    for entry in archive.infolist():
                        if not entry.is_dir():
                            _write(archive, entry, Path(folder) / entry.filename)
                (Path(folder) / top).rename(target)
            return target, sum(not entry.is_dir() for entry in entries), size
    except OSError as error:
        raise UserError(
            f"{path} cannot be unpacked into {into} ({error.strerror or error}): mend that, then try again."
        ) from error
    except DAMAGED as error:
        raise UserError(f"{path} is no bundle, or damaged ({printable(error)}): fetch it again.") from error


def _parts(path: Path) -> list[Path]:
    """Name the zips of a bundle, of which one is given; a UserError where another one is missing."""
    parts = parts_of(path)
    if missing := [part.name for part in parts if part != path and not os.path.lexists(part)]:
        raise UserError(
            f"{missing[0]}, another part of {path}, is not beside it: put all {len(parts)} into one folder."
        )
    return parts


def _look_at(path: Path, entries: list[zipfile.ZipInfo]) -> str:
    """Return the name of the one folder of a bundle; a UserError where it has what no bundle has."""
    seen: set[str] = set()
    for entry in entries:
        shown = printable(entry.orig_filename)[:200]
        if wrong := _what_is_wrong(entry):
            raise UserError(f"{path} is not to be trusted: {shown!r} in it {wrong}, which no bundle has.")
        # as file systems do that know no difference between capitals and small letters, or between forms of accents
        name = unicodedata.normalize("NFKC", entry.filename).casefold()
        if name in seen:
            raise UserError(f"{path} is not to be trusted: {shown!r} is in it twice.")
        seen.add(name)
    tops = {entry.filename.partition("/")[0] for entry in entries}
    top = tops.pop() if len(tops) == 1 else ""
    if not TOP.fullmatch(top) or not any(entry.filename == f"{top}/{METADATA}" for entry in entries):
        raise UserError(f"{path} is no bundle: one has a single folder, with {METADATA} in it.")
    return top


def _what_is_wrong(entry: zipfile.ZipInfo) -> str:
    """Say what is wrong with a file in a zip; nothing where it is as in a bundle."""
    kind, parts = stat.S_IFMT(entry.external_attr >> 16), entry.filename.removesuffix("/").split("/")
    if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        return "is a link or a device"
    if entry.orig_filename != entry.filename or not entry.filename.isprintable():
        return "has a name with control characters"
    if any(ELSEWHERE.fullmatch(part) or len(part.encode()) > 255 for part in parts):
        return "has a name that leads elsewhere"
    if any(part.casefold() == ".git" or part.casefold().startswith("git~") for part in parts):
        return "is of a repository of Git, whose settings can name programs"
    return "is encrypted, or packed in another way" if entry.flag_bits & 1 or entry.compress_type not in WAYS else ""


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as content, path.open("xb") as copy:
        shutil.copyfileobj(content, copy, BLOCK)
    mode = entry.external_attr >> 16
    path.chmod(0o755 if mode & 0o100 else 0o644 if mode & 0o200 or not mode else 0o444)
