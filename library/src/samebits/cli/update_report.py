"""What an update has brought, in words: commits of the template, the library's version, and whether bits change."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

WHEEL = re.compile(r"vendor/samebits-(?P<version>[^-/]+)-py3-none-any\.whl")
MODULE = re.compile(r"samebits/(engine/\w+|__init__)\.py")
CONTRACT = re.compile(r"^CONTRACT(?:\s*:\s*[\w\[\]]+)?\s*=\s*(\d+)", re.MULTILINE)
# Files that name a run, besides the library: a change of them in a merge may give runs new names.
NAMES_RUNS = re.compile(r"(configs|src)/|requirements/(main|torch-.*)\.txt$|dvc\.yaml$")
MOST_COMMITS = 30


@dataclass(frozen=True)
class Library:
    """The library as some commit holds it; None where it cannot be told."""

    version: str | None = None
    contract: int | None = None
    ejected: bool = False


def git(root: Path, *words: str) -> bytes:
    """Run git; return what it printed, and nothing where it fails."""
    return subprocess.run(["git", *words], cwd=root, capture_output=True).stdout


def library_in(root: Path, commit: str) -> Library:
    """Read version and contract from the wheel that a commit holds."""
    for name in git(root, "ls-tree", "--name-only", commit, "vendor/").decode().splitlines():
        if found := WHEEL.fullmatch(name):
            with zipfile.ZipFile(io.BytesIO(git(root, "cat-file", "blob", f"{commit}:{name}"))) as wheel:
                modules = filter(MODULE.fullmatch, wheel.namelist())
                numbers = [CONTRACT.search(wheel.read(each).decode()) for each in modules]
            return Library(found["version"], next((int(number[1]) for number in numbers if number), None))
    return Library(ejected=bool(git(root, "ls-tree", commit, "src/samebits")))


def report(root: Path, before: str, after: str, template: Path, old: str | None, new: str, changed: list[str]) -> str:
    """Say what has come.

    Args:
        root: the project.
        before: its HEAD before the merge.
        after: the newest rendering.
        template: a clone of the template.
        old: the template's commit that the project had.
        new: the one that it has now.
        changed: the files that the merge has changed.
    """
    then, now = library_in(root, before), library_in(root, after)
    changed = [name for name in changed if name != ".cruft.json"]
    lines = [*commits(template, old, new), *library(then, now), *bits(then, now, [*filter(NAMES_RUNS.match, changed)])]
    if then.version and now.version:
        lines += changelog(template / "library/CHANGELOG.md", then.version, now.version)
    lines.append(f"files     {', '.join(changed)}" if changed else "files     none of the project's own changes")
    return "\n".join(lines)


def commits(template: Path, old: str | None, new: str) -> list[str]:
    """List the template's commits between two."""
    head = f"template  {old[:7] if old else 'unknown'} → {new[:7]}"
    if not old or not git(template, "rev-parse", "--verify", "--quiet", f"{old}^{{commit}}"):
        return [f"{head} (what lies between is unknown: this template has no such commit)"]
    found = git(template, "log", "--format=%h %s", f"{old}..{new}").decode().splitlines()
    more = [f"  and {len(found) - MOST_COMMITS} more"] if len(found) > MOST_COMMITS else []
    if not found and old != new:
        head += " (an older one than the project had)"
    return [head, *(f"  {line}" for line in found[:MOST_COMMITS]), *more]


def library(then: Library, now: Library) -> list[str]:
    """Say which version of the library there was, and is."""
    if then.ejected:
        return ["samebits  is ejected: src/samebits stays as it is"]
    return [f"samebits  {then.version or 'none'} → {now.version or 'none'}"]


def bits(then: Library, now: Library, names_runs: list[str]) -> list[str]:
    """Say whether the same training gives the same bits as before, under the same name."""
    said = []
    if then.contract is None or now.contract is None:
        if not then.ejected:
            said = ["contract  unknown: make reproduce will say whether bits change"]
    elif then.contract == now.contract:
        renamed = "no run is renamed by the library" if names_runs else "no run is renamed"
        said = [f"contract  {then.contract} → {now.contract}: no training's bits change, {renamed}"]
    else:
        said = [
            f"contract  {then.contract} → {now.contract}: some trainings' bits change, so runs get new names; the"
            " old ones stay, and make reproduce CODE=recorded trains them as they were"
        ]
    if names_runs:
        said.append(f"runs      may get new names by changes in {', '.join(names_runs)}")
    return said


def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers, which compare."""
    return tuple(map(int, re.findall(r"\d+", version)))


def changelog(path: Path, then: str, now: str) -> list[str]:
    """Return the library's changelog from one version to another."""
    if not path.is_file():
        return []
    lines = []
    for section in re.split(r"^(?=## )", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
        version = re.match(r"## \D*(\d+(?:\.\d+)+)", section)
        if version and numbers(then) < numbers(version[1]) <= numbers(now):
            lines += [f"  {line}".rstrip() for line in section.strip().splitlines()]
    return lines
