"""Attacks on `make update`: killed at random instants, or when a file changes; the next call brings it to its end."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path

from .attack import Attack
from .updating import HOME, Pair, commit, edit, git, make_pair
from .wheels import write_wheel

KIND = "make update"
PATIENCE = 120  # seconds after which a command hangs
MANY = 150  # files that an update changes, so that it takes a while


@cache
def older() -> Pair:
    """Make a project with edits of the user's, and a newer version of its template."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pair = make_pair(folder)
    edit(pair.project / "train.py", "line 3\n", "mine\n")
    (pair.project / "mine.txt").write_text("mine\n")
    commit(pair.project)
    (pair.project / "untracked.txt").write_text("untracked\n")
    edit(pair.source / "train.py", "line 30\n", "theirs\n")
    edit(pair.source / "README.md", "line 30\n", "theirs\n")
    (pair.source / "dropped.txt").unlink()
    for number in range(MANY):
        (pair.source / f"new-{number}.txt").write_text("theirs\n" * 1000)
    write_wheel(pair.source / "vendor", "1.1.0")
    commit(pair.template)
    return pair


@cache
def expected() -> tuple[str, float, int]:
    """Update undisturbed: the tree that it leads to, the seconds, and how often files were seen to change."""
    with tempfile.TemporaryDirectory() as folder:
        project = copied(Path(folder))
        started, changes, last = time.monotonic(), 0, listing(project)
        process = start(project)
        while process.poll() is None:
            now = listing(project)
            changes, last = changes + (now != last), now
        assert process.wait() == 0
        return git(project, "rev-parse", "HEAD^{tree}"), time.monotonic() - started, changes


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(older().project, folder / "project", symlinks=True))


def start(project: Path) -> subprocess.Popen[str]:
    """Start an update in a process group of its own, from the wheel that the project has."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTHON"))}
    (wheel, *_) = sorted(project.glob("vendor/*.whl"))
    more = {**HOME, "PYTHONPATH": str(wheel), "SAMEBITS_COOKIECUTTER": sys.executable, "TMPDIR": str(project.parent)}
    return subprocess.Popen(
        [sys.executable, "-S", "-m", "samebits.cli.update"],
        cwd=project,
        env=kept | more,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def listing(project: Path) -> frozenset[tuple[str, int, int]]:
    """List the files with their sizes and times, and those of Git's own that are not objects."""
    found = []
    for parent, folders, names in os.walk(project):
        folders[:] = [name for name in folders if name != "objects"]
        for name in names:
            try:
                seen = os.lstat(os.path.join(parent, name))  # noqa: PTH118 (thousands of them a second)
            except FileNotFoundError:
                continue
            found.append((f"{parent}/{name}", seen.st_mtime_ns, seen.st_size))
    return frozenset(found)


def kept(project: Path) -> None:
    """Check that what the user had is there: edits, commits, and a repository that is whole."""
    before = git(older().project, "rev-parse", "HEAD")
    assert (project / "mine.txt").read_text() == "mine\n" and (project / "untracked.txt").read_text() == "untracked\n"
    assert "mine\n" in (project / "train.py").read_text(), "an edit is lost"
    git(project, "merge-base", "--is-ancestor", before, "HEAD")
    assert not git(project, "fsck", "--full", "--no-dangling")
    assert [*project.glob("vendor/*.whl")], "there is no wheel from which the next update could start"
    for path in (path for path in project.rglob("*.txt") if ".git" not in path.parts):
        committed = git(project, "log", "--all", "--format=%h", "--", path.name)
        assert path.name == "untracked.txt" or not committed or path.stat().st_size, f"{path.name} was cut off"


def cut_off(seed: int, folder: Path) -> None:
    """Kill an update, in one of several ways; then let the next one come to its end."""
    draw, (tree, seconds, changes) = random.Random(seed), expected()
    for turn in range(5):  # once more, where it had ended before
        project = copied(folder / f"{turn}")
        before, process = listing(project), start(project)
        if seed % 3:
            wanted, seen, last = draw.randint(1, changes), 0, before
            while seen < wanted and process.poll() is None:
                now = listing(project)
                seen, last = seen + (now != last), now
        else:
            time.sleep(draw.uniform(0, seconds))
        if process.poll() is None:
            break
        process.communicate()
    how = draw.choice(("all", "all", "all", "first", "child", "SIGTERM", "SIGINT"))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = children.read_text().split() if how == "child" and children.exists() else []
    if process.poll() is None:
        if child:
            os.kill(int(child[0]), signal.SIGKILL)
        elif how == "first":
            process.kill()
        else:
            os.killpg(process.pid, signal.Signals[how] if how.startswith("SIG") else signal.SIGKILL)
    said, _ = process.communicate(timeout=PATIENCE)
    kept(project)
    again = start(project)
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, f"{how}: the next update ended with {again.returncode}: {said}"
    kept(project)
    assert git(project, "rev-parse", "HEAD^{tree}") == tree, "the result is another one"
    assert git(project, "status", "--porcelain") == "?? untracked.txt"
    assert not [*(project / ".git").rglob("*.lock")] and not [*(project / ".git").glob("samebits*")]
    last_call = start(project)
    said, _ = last_call.communicate(timeout=PATIENCE)
    assert last_call.returncode == 0 and "Nothing new" in said, said


def cut_off_between_files(project: Path) -> None:
    """Kill an update when half of its files are there."""
    process = start(project)
    while len([*project.glob("new-*.txt")]) < MANY // 2:
        assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len([*project.glob("new-*.txt")]) < MANY


CASES = [Attack(KIND, f"killed, {seed}", partial(cut_off, seed)) for seed in range(30)]
