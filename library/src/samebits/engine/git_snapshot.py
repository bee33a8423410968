"""The exact state of the code at a training, kept by Git without touching branch, index or work tree.

A temporary index takes in all that is there, committed or not, ignored files excepted; the tree made of it becomes a
commit under refs/runs/<run>, and its difference from the last commit is written to code.patch, so that the run's
directory and that commit suffice.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import bytes_sha256
from .project import project
from .secrets import is_private, redact, redact_text, why_private

PATCH = "code.patch"
MOST_BYTES = 5_000_000  # of a file that is not committed; larger ones are no code
RESULTS = ("models", "shared", "reports", "dvc.lock")  # made by runs, not read by them
# variables that hooks of Git set, and others, lead to another repository, another index, or patches of another form
KEPT = re.compile("(?!GIT_)|GIT_(CONFIG|CEILING|DISCOVERY|EXEC_PATH)")
# no programs of the user's are started, and nothing is refused for its line ends
PLAIN = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false")
READING = ("-c", "safe.directory=*")  # is no harm, also in a repository of somebody else's, as in a container
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
    done = _call(root, words, variables)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"git {words[0]} failed"]
        line = next((line for line in said if line.startswith(("fatal: ", "error: "))), said[0])
        mend = f"; git config --global --add safe.directory {root} trusts it" if "dubious ownership" in line else ""
        raise NoGit(line.removeprefix("fatal: ").removeprefix("error: ").rstrip(".") + mend)
    return done.stdout


def _call(root: Path, words: Sequence[str], variables: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if KEPT.match(name)} | variables
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # where `git status` is killed, its lock would stay, and refuse all commits
    try:
        return subprocess.run(["git", *PLAIN, *words], cwd=root, env=environment, capture_output=True)
    except OSError:
        raise NoGit("Git is not installed") from None


def text(root: Path, *words: str, **variables: str) -> str:
    """Call Git, and return what it prints as one line."""
    return os.fsdecode(git(root, *words, **variables)).strip()


def take_snapshot(root: Path, run: str | None, directory: Path) -> dict[str, Any]:
    """Pin the state of the code, and describe it for the record.

    Args:
        root: the project's folder.
        run: the run's id, under which Git keeps the state; None keeps nothing.
        directory: the run's own, for code.patch.

    Returns:
        `commit`, the last one; `changed`, the files that differ from it; `snapshot`, the commit that holds them;
        `patch`, the sha256 of code.patch; `left_out`, files too large to be code, in bytes; `remote`; `remark`, a
        sentence on what could not be kept, and why. Where Git fails, what there is up to there.
    """
    (directory / PATCH).unlink(missing_ok=True)
    described: dict[str, Any] = {}
    missing: list[str] = []
    try:
        described["commit"] = text(root, *READING, "rev-parse", "--verify", "HEAD")
        described["remote"] = None
        with suppress(NoGit):
            described["remote"] = redact(_printable(text(root, *READING, "remote", "get-url", "origin")))
        _keep(root, run, directory, described, missing)
    except NoGit as error:
        reason = str(error).replace("Needed a single revision", "the repository has no commit yet")
        lost = f"no Git ({reason}): the code is known by its hashes alone"
        if "commit" in described:
            lost = f"Git could not keep how the code differs from the commit ({reason})"
        missing.append(f"{lost}, so keep a copy of it with the run")
    return described | ({"remark": "; ".join(map(_printable, missing))} if missing else {})


def drop(root: Path, run: str) -> None:
    """Let Git forget the state of the code of a run that is not there."""
    with suppress(NoGit):
        git(root, "update-ref", "-d", f"refs/runs/{run}")


def private_states(root: Path) -> list[tuple[str, str]]:
    """List the runs whose state of the code, kept by an older version, has a file of a private name; and which."""
    words = ("--no-walk", "--author=^run <run@localhost>$", "--glob=refs/runs/*", "--name-only", "--format=%x00%s")
    commits = (each.split("\n") for each in text(root, "log", *words).split("\0")[1:])
    return [(subject.split()[-1], name) for subject, *names in commits for name in names if is_private(name)]


def _keep(root: Path, run: str | None, directory: Path, described: dict[str, Any], missing: list[str]) -> None:
    """Keep how the code differs from the commit; describe it, and add sentences on what is missing."""
    commit = described["commit"]
    with tempfile.TemporaryDirectory() as folder:
        apart = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        real, objects = (root / text(root, "rev-parse", "--git-path", name) for name in ("index", "objects"))
        with suppress(OSError):
            # with it, Git need not read files that have not changed; by its date, it knows which may have since then
            shutil.copy2(real, apart["GIT_INDEX_FILE"])
        new = Path(folder) / "objects"
        try:
            tree, large, private = _tree(root, commit, apart)
        except NoGit:  # something cannot be taken in: all that can be, outside of the repository first
            new.mkdir()
            apart |= {"GIT_OBJECT_DIRECTORY": str(new), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects.resolve())}
            tree, large, private = _tree(root, commit, apart, missing)
        missing += _changed_inside(root, apart)
        compare = ("diff-tree", "-r", "--relative", "--no-ext-diff", commit, tree)
        changed = os.fsdecode(git(root, *compare, "--name-only", "-z", **apart)).split("\0")
        described |= {"changed": [_printable(name) for name in changed if name], "snapshot": commit}
        if patch := git(root, *compare, "-p", "--binary", **apart):
            content = redact_text(patch.decode(errors="surrogateescape"), PATCH).encode(errors="surrogateescape")
            (directory / PATCH).write_bytes(content)
            described["patch"] = bytes_sha256(content)
            described["snapshot"] = text(
                root, "commit-tree", tree, "-p", commit, "-m", f"The code of {run}", **NOBODY, **apart
            )
        if private:
            mend = "let .gitignore name such files, and code and settings read secrets from the environment"
            listed = ", ".join(f"{name} ({reason})" for name, reason in private.items())
            missing.append(f"left out of the state of the code that is kept: {listed}: {mend}")
        if large:
            described["left_out"] = {_printable(name): size for name, size in large.items()}
        try:
            _take_over(new, objects)
            if run:
                left = text(root, "rev-parse", "--git-path", f"refs/runs/{run}.lock")  # by one that was killed
                (root / left).unlink(missing_ok=True)
                git(root, "update-ref", f"refs/runs/{run}", described["snapshot"])
        except (NoGit, OSError) as reason:
            where = f"the commit{' and code.patch hold' if patch else ' holds'} it"
            missing.append(f"Git could not keep the code's state under refs/runs/{run} ({reason}): {where}")


def _tree(root: Path, commit: str, apart: dict[str, str], missing: list[str] | None = None) -> tuple[str, Any, Any]:
    """Write the tree of all files that are there, but for what `_left_out` finds, which comes with it.

    Args:
        root: the project's folder.
        commit: what it begins with.
        apart: the variables that lead to an index beside the repository's.
        missing: where it is given, what cannot be taken in is passed over, and a sentence on it is added.
    """
    around = [] if missing is None else _without_filters(root)
    try:
        git(root, *around, "read-tree", "--reset", commit, **apart)
    except NoGit:  # the index that it began with is damaged
        Path(apart["GIT_INDEX_FILE"]).unlink(missing_ok=True)
        git(root, *around, "read-tree", "--reset", commit, **apart)
    large, private = _left_out(root, around, apart)
    ignored = _ignored(root, results())  # which Git refuses to have named, and leaves out by itself
    names = [*(name for name in results() if name not in ignored), *large, *private]
    prefix = text(root, "rev-parse", "--show-prefix")
    excluded = [f":(exclude,top,literal){prefix}{name}" for name in names]
    try:
        git(root, *around, "add", "--all", "--", ".", *excluded, **apart)
    except NoGit as reason:
        if missing is None:
            raise
        missing.append(f"Git could not take in every file ({reason}), so keep a copy of the rest with the run")
        _call(root, [*around, "add", "--all", "--ignore-errors", "--", ".", *excluded], apart)
    return text(root, *around, "write-tree", **apart), large, private


def _without_filters(root: Path) -> list[str]:
    """Write the options by which Git takes files as they are: programs such as git-lfs may not be installed."""
    try:
        names = text(root, "config", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$").split("\n")
    except NoGit:  # there are none
        return []
    filters = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return [word for each in filters for word in ("-c", f"{each}.process=", "-c", f"{each}.required=false")]


def _changed_inside(root: Path, apart: dict[str, str]) -> list[str]:
    """Say in a sentence which repositories within the project, as submodules, are not as they were committed there."""
    found = []
    for entry in git(root, "ls-files", "--stage", "-z", **apart).split(b"\0"):
        name = os.fsdecode(entry.partition(b"\t")[2])
        if entry.startswith(b"160000 ") and (root / name / ".git").exists():
            with suppress(NoGit):
                found += [name] if text(root / name, "status", "--porcelain") else []
    which = ", ".join(found[:3])
    return [f"the record has what was committed last in {which}, not what has changed there since"] if found else []


def _take_over(new: Path, objects: Path) -> None:
    """Move objects that were written outside of the repository into it; an OSError where it may not be written."""
    for path in new.glob("??/*"):
        target = objects / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            shutil.copy(path, target.with_suffix(".new"))
            target.with_suffix(".new").replace(target)


def _printable(name: str) -> str:
    """Write a name whose bytes are no UTF-8 so that a record can hold it."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


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


def _left_out(root: Path, around: Sequence[str], apart: dict[str, str]) -> tuple[dict[str, int], dict[str, str]]:
    """List the files that are not committed as they are and not to be kept: too large, in bytes; private, and why."""
    words = [*around, "ls-files", "--others", "--modified", "--exclude-standard", "-z"]
    large, private, made = {}, {}, tuple(f"{each}/" for each in results())
    for name in sorted(set(os.fsdecode(git(root, *words, **apart)).split("\0")) - {""}):
        path = root / name
        with suppress(OSError):  # gone by now
            if name.startswith(made):
                continue
            if path.is_file() and (size := path.stat().st_size) > MOST_BYTES:
                large[name] = size
            elif reason := why_private(name, path.read_bytes() if path.is_file() and not path.is_symlink() else b""):
                private[name] = reason
    return large, private


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
    if "snapshot" not in source:
        raise NoGit(source.get("remark", "the record names no commit"))
    prefix = text(root, "rev-parse", "--show-prefix")
    patch = run / PATCH if "patch" in source else None
    try:
        git(root, "cat-file", "-e", f"{source['snapshot']}^{{tree}}")
        start, patch = source["snapshot"], None
    except NoGit:
        start = source["commit"]
    top = Path(text(root, "rev-parse", "--show-toplevel"))
    ends = ["-c", "core.autocrlf=false"] if patch else []  # a patch has the line ends that Git keeps
    wanted = ["archive", "--format=tar", f"{start}:{prefix.rstrip('/')}" if prefix else start]
    try:
        archive = git(top, *ends, *wanted)
    except NoGit:
        archive = git(top, *ends, *_without_filters(root), *wanted)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(target, filter=_inside)
    if patch:
        git(
            target,
            *ends,
            "apply",
            "--whitespace=nowarn",
            str(patch.resolve()),
            GIT_CEILING_DIRECTORIES=str(target.parent),
        )
