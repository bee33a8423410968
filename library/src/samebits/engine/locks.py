"""The locks of a project of repro-template's, requirements/*.txt, and where the environment is not what they say.

It is not where others than `make setup` made it: `uv sync`, `pip install`, conda. Trainings work there as well; the
record says which versions are others.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.utils import canonicalize_name, canonicalize_version

FOLDER = "requirements"
ADDED = ".with-"  # begins the names of install.sh's notes on additions, as .with-dev
ALWAYS = "main"  # the lock of what every training needs
WITHOUT_LOCK = {"pip"}  # Python's own brings it
REQUIREMENT = re.compile(
    r"(?:\./(?P<wheel>\S*?(?P<project>[^/\s-]+)-(?P<built>[^-\s]+)-\S+\.whl)"
    r"|(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==(?P<version>[^\s;]+))\s*(?:;(?P<marker>.*?))?(?=\s--hash|\s*$)"
)


@dataclass(frozen=True)
class Locked:
    """A package as a lock has it."""

    version: str
    hashes: frozenset[str]  # of the wheels, any of which may be installed; hexadecimal
    wheel: str = ""  # its path in the project, where it has one


def read_lock(text: str) -> dict[str, Locked]:
    """Read the packages of a lock that this system is to have, by their names."""
    found: dict[str, Locked] = {}
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        match = REQUIREMENT.match(line)
        if match and (not match["marker"] or Marker(match["marker"]).evaluate()):
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
            version = canonicalize_version(match["version"] or match["built"])
            found[canonicalize_name(match["name"] or match["project"])] = Locked(version, hashes, match["wheel"] or "")
    return found


def read_locks(root: Path, names: Iterable[str]) -> dict[str, Locked]:
    """Read those of a project's locks that are there, as one."""
    found: dict[str, Locked] = {}
    for path in (root / FOLDER / f"{name}.txt" for name in names):
        found |= read_lock(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def chosen_locks(root: Path, prefix: Path, torch: str) -> list[str]:
    """Name the locks that an environment was made from, by what `make setup` was told; none where there are no locks.

    Args:
        root: the project's folder.
        prefix: the environment's.
        torch: the version of PyTorch there, by whose build its lock is known where `make setup` has noted none.
    """
    if not (root / FOLDER / f"{ALWAYS}.txt").exists():
        return []
    kept = prefix / ".choices"
    rows = (line.partition("=") for line in (kept.read_text().splitlines() if kept.exists() else ()))
    choices = {name: value for name, _, value in rows}
    accelerator = choices.get("accelerator") or ("cpu" if torch.endswith("+cpu") else "cuda")
    added = sorted(path.name.removeprefix(ADDED) for path in prefix.glob(f"{ADDED}*"))
    names = (ALWAYS, f"torch-{accelerator}", "samebits", *added)
    return [name for name in names if (root / FOLDER / f"{name}.txt").exists()]


def all_locks(root: Path) -> list[str]:
    """Name all locks of a project."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.txt"))


def own_name(root: Path) -> str:
    """Return the name of the project's own distribution, which no lock has."""
    described = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return canonicalize_name(str(described.get("project", {}).get("name", "")))


def unlocked(root: Path, prefix: Path, environment: Mapping[str, Any]) -> dict[str, str]:
    """Say where an environment is not what the locks say: what trainings need, and what this one has loaded besides.

    Args:
        root: the project's folder.
        prefix: the environment's.
        environment: what a record has of it: the versions of all packages, and those that something was loaded from.

    Returns:
        Names, and the difference in words; empty where there is none, or no lock.
    """
    versions = environment["packages"].items()
    present: dict[str, str] = {canonicalize_name(name): canonicalize_version(version) for name, version in versions}
    chosen = chosen_locks(root, prefix, present.get("torch", ""))
    if not chosen:
        return {}
    wanted = read_locks(root, [name for name in chosen if name == ALWAYS or name.startswith("torch-")])
    others = read_locks(root, all_locks(root)) | read_locks(root, chosen)
    names = wanted.keys() | (set(map(canonicalize_name, environment["loaded"])) & present.keys())
    found = {}
    for name in sorted(names - WITHOUT_LOCK - {own_name(root)}):
        locked = wanted.get(name) or others.get(name)
        if locked is None:
            found[name] = f"{present[name]}, in no lock"
        elif present.get(name) != locked.version:
            found[name] = f"{present.get(name, 'not installed')}, locked: {locked.version}"
    return found
