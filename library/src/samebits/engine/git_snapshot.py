"""The exact state of the code at a training, kept by Git without touching branch, index or work tree.

A temporary index takes in all that is there, committed or not, ignored files excepted; the tree made of it becomes a
commit under refs/runs/<run>, and its difference from the last commit is written to code.patch, so that the run's
directory and that commit suffice.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .files import bytes_sha256, redact
from .project import project

PATCH = "code.patch"
MOST_BYTES = 5_000_000  # of a file that is not committed; larger ones are no code
RESULTS = ("models", "shared", "reports", "dvc.lock")  # made by runs, not read by them
NOBODY = {"GIT_AUTHOR_NAME": "run", "GIT_AUTHOR_EMAIL": "run@localhost"}
NOBODY |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in NOBODY.items()}


def results() -> tuple[str, ...]:
    """List what runs make: of an adopted project, the folder of its runs alone is known."""
    here = project()
    return (here.runs_in,) if here.adopted else RESULTS


class NoGit(Exception):
    """Git is not there, or does not know the folder; the text says why."""


def git(root: Path, *words: str, **variables: str) -> bytes:
    """Call Git in `root`, with more environment variables.

    Raises:
        NoGit: it failed.
    """
    try:
        done = subprocess.run(["git", *words], cwd=root, env=os.environ | variables, capture_output=True)
    except OSError:
        raise NoGit("Git is not installed") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"git {words[0]} failed"]
        raise NoGit(said[0].removeprefix("fatal: "))
    return done.stdout


def text(root: Path, *words: str, **variables: str) -> str:
    """Call Git, and return what it prints as one line."""
    return git(root, *words, **variables).decode().strip()


def take_snapshot(root: Path, run: str | None, directory: Path) -> dict[str, Any]:
    """Pin the state of the code, and describe it for the record.

    Args:
        root: the project's folder.
        run: the run's id, under which Git keeps the state; None keeps nothing.
        directory: the run's own, for code.patch.

    Returns:
        `commit`, the last one; `changed`, the files that differ from it; `snapshot`, the commit that holds them;
        `patch`, the sha256 of code.patch; `left_out`, files too large to be code, in bytes; `remote`. Without Git:
        `remark` alone.
    """
    (directory / PATCH).unlink(missing_ok=True)
    try:
        return _take_snapshot(root, run, directory)
    except NoGit as reason:
        remark = f"no Git ({reason}): the code is known by its hashes alone, so keep a copy of it with the run"
        return {"remark": remark}


def _take_snapshot(root: Path, run: str | None, directory: Path) -> dict[str, Any]:
    commit = text(root, "rev-parse", "--verify", "HEAD")
    prefix = text(root, "rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        real = Path(text(root, "rev-parse", "--absolute-git-dir")) / "index"
        if real.exists():
            shutil.copyfile(real, index)  # with it, Git need not read files that have not changed
        large = _large(root)
        ignored = _ignored(root, results())  # which Git refuses to have named, and leaves out by itself
        names = [*(name for name in results() if name not in ignored), *large]
        excluded = [f":(exclude,top,literal){prefix}{name}" for name in names]
        apart = {"GIT_INDEX_FILE": str(index)}
        git(root, "read-tree", "--reset", commit, **apart)
        git(root, "add", "--all", "--", ".", *excluded, **apart)
        tree = text(root, "write-tree", **apart)
    patch = git(root, "diff", "--binary", "--no-color", "--no-ext-diff", "--relative", commit, tree)
    described: dict[str, Any] = {"commit": commit, "changed": [], "snapshot": commit}
    if patch:
        changed = git(root, "diff", "--name-only", "--relative", "-z", commit, tree).decode().split("\0")
        snapshot = text(root, "commit-tree", tree, "-p", commit, "-m", f"The code of {run}", **NOBODY)
        content = redact(patch.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        (directory / PATCH).write_bytes(content)
        described |= {"changed": [name for name in changed if name], "patch": bytes_sha256(content)}
        described["snapshot"] = snapshot
    if run:
        git(root, "update-ref", f"refs/runs/{run}", described["snapshot"])
    if large:
        described["left_out"] = large
    try:
        described["remote"] = redact(text(root, "remote", "get-url", "origin"))
    except NoGit:
        described["remote"] = None
    return described


def _ignored(root: Path, names: Sequence[str]) -> list[str]:
    """List those of the paths that a .gitignore leaves out altogether."""
    try:
        return text(root, "check-ignore", "--no-index", *names).splitlines()
    except NoGit:  # its exit status where there are none
        return []


def _inside(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
    """Leave out links that lead out of the folder."""
    try:
        return tarfile.data_filter(member, target)
    except tarfile.FilterError:
        return None


def _large(root: Path) -> dict[str, int]:
    """List the files that are not committed as they are and too large to be code: path and bytes."""
    listed = git(root, "ls-files", "--others", "--modified", "--exclude-standard", "-z").decode().split("\0")
    sizes = {name: (root / name).stat().st_size for name in listed if name and (root / name).is_file()}
    return {
        name: size
        for name, size in sorted(sizes.items())
        if size > MOST_BYTES and not name.startswith(tuple(f"{each}/" for each in results()))
    }


def export_snapshot(root: Path, source: dict[str, Any], run: Path, target: Path) -> None:
    """Write the recorded state of the code to `target`, an empty folder.

    Args:
        root: the project's folder.
        source: of the record.
        run: the run's directory, with code.patch where there was one.
        target: the folder.

    Raises:
        NoGit: neither the snapshot nor the commit is in this repository.
    """
    if "commit" not in source:
        raise NoGit(source.get("remark", "the record names no commit"))
    prefix = text(root, "rev-parse", "--show-prefix")
    patch = run / PATCH if "patch" in source else None
    try:
        git(root, "cat-file", "-e", f"{source['snapshot']}^{{tree}}")
        start, patch = source["snapshot"], None
    except NoGit:
        start = source["commit"]
    top = Path(text(root, "rev-parse", "--show-toplevel"))
    archive = git(top, "archive", "--format=tar", f"{start}:{prefix.rstrip('/')}" if prefix else start)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter=_inside)
    if patch:
        git(target, "apply", "--whitespace=nowarn", str(patch.resolve()), GIT_CEILING_DIRECTORIES=str(target.parent))
