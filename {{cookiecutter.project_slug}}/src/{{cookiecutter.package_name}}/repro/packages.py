"""The Python code that a training works with beside its own: installed packages, and files from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import sysconfig
from email.parser import HeaderParser
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from .hashing import file_sha256
from .inputs import is_view

STARTUP = ("sitecustomize", "usercustomize")  # modules that Python itself loads at each start, if they are there
Modules = dict[str, str]  # name and file


def loaded() -> Modules:
    """List the modules that are loaded from files."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name: file for name, file in files.items() if isinstance(file, str) and os.path.isfile(file)}  # noqa: PTH113


@cache
def versions() -> dict[str, str]:
    """List all packages that can be imported, and their versions; of one that is there twice, the first counts."""
    found: dict[str, str] = {}
    for each in distributions():
        text = each.read_text("METADATA") or each.read_text("PKG-INFO") or each.read_text("") or ""  # "": it is a file
        about = HeaderParser().parsestr(text.partition("\n\n")[0])  # each.metadata would parse the README as well
        found.setdefault(about["Name"].lower().replace("_", "-"), about["Version"])
    return dict(sorted(found.items()))


def patched(modules: Modules) -> dict[str, str]:
    """Find loaded files of packages that are not as they were installed: path and sha256.

    Each wheel brings a list of its files and their hashes, RECORD; the files are compared with it.
    """
    installed = _installed()
    files = {file: installed[file] for file in set(modules.values()) if file in installed}
    digests = {file: _sha256(file) for file in files}
    return {
        name: digests[file].hex()
        for file, (name, recorded) in sorted(files.items())
        if base64.urlsafe_b64encode(digests[file]).rstrip(b"=").decode() != recorded
    }


@cache
def _installed() -> dict[str, tuple[str, str]]:
    """List the files of all packages: path as Python knows it, name, and the sha256 that came with the package."""
    found: dict[str, tuple[str, str]] = {}
    for each in distributions():
        folder = os.path.join(str(each.locate_file("")), "")  # noqa: PTH118 (60,000 Paths would take two seconds)
        for line in (each.read_text("RECORD") or "").splitlines():  # path,sha256=digest,size; no module's needs quotes
            name, _, rest = line.partition(",sha256=")
            if rest:
                found[folder + name] = name, rest.partition(",")[0]
    return found


@cache
def _sha256(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def outside(modules: Modules, root: Path, package: Path) -> dict[str, str]:
    """Find loaded code that is not hashed with the package and belongs to no installed one: path and sha256.

    Of a path outside of the project only the name is kept, as `.../name.py`: the rest would tell of this computer, and
    mean nothing on another.
    """
    ours = {name: Path(file) for name, file in modules.items() if file.startswith(f"{package}{os.sep}")}
    views = {name: path for name, path in ours.items() if is_view(path, package)}
    return {
        path.relative_to(root).as_posix() if path.is_relative_to(root) else f".../{path.name}": file_sha256(path)
        for name, path in sorted((_elsewhere(modules, package) | views).items())
        if name not in STARTUP
    }


def startup(modules: Modules, package: Path) -> dict[str, str]:
    """Find what Python ran before the training: name and sha256."""
    elsewhere = _elsewhere(modules, package)
    return {name: file_sha256(path) for name, path in sorted(elsewhere.items()) if name in STARTUP}


def _elsewhere(modules: Modules, package: Path) -> dict[str, Path]:
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    known = tuple(
        f"{folder}{os.sep}" for each in (*installed, str(package)) for folder in (each, os.path.realpath(each))
    )
    others = {name: file for name, file in modules.items() if not file.startswith(known)}
    resolved = {name: Path(file).resolve() for name, file in others.items()}
    return {name: path for name, path in resolved.items() if not str(path).startswith(known)}
