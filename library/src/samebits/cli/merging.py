"""Merging a commit into a project so that it may be ended at any instant: for `samebits.cli.update`.

What is merged lies in a worktree beside, and its files take their places one by one, each whole; what is left of that
is brought to its end by the next call, since a note says which commit it was. With the standard library alone.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..engine.errors import UserError

ASIDE = "samebits-update"  # in Git's own folder: the worktree
NOTE = f"{ASIDE}.json"  # beside it: `head`, the commit before; `merged`, the one to come; `refs`, and where they go


def run(*command: str | Path, cwd: Path | None = None, failure: str = "", **variables: str) -> str:
    """Run a command with more environment variables; return what it printed.

    Where it fails, `failure` is the error's text, with the last line of what the command printed in place of REASON.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", **variables}  # a killed `git status` leaves no lock
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, text=True, capture_output=True)
    if done.returncode and failure:
        reason = f"{done.stdout}\n{done.stderr}".strip().splitlines() or [f"status {done.returncode}"]
        raise UserError(failure.replace("REASON", reason[-1]))
    done.check_returncode()
    return done.stdout.strip()


def git(root: Path, *arguments: str | Path, **variables: str) -> str:
    """Run git in a folder; return what it printed."""
    return run("git", *arguments, cwd=root, **variables)


def ask(root: Path, *arguments: str) -> str:
    """Run git in a folder; return an empty text where it fails."""
    return subprocess.run(["git", *arguments], cwd=root, text=True, capture_output=True).stdout.strip()


def merge(root: Path, base: str, tip: str, branch: str, message: str) -> list[str]:
    """Let the branch be at `tip`, and merge it into HEAD from `base`; return the files with conflicts."""
    command, head = ("merge", "--no-ff", "--no-edit", "-m"), git(root, "rev-parse", "HEAD")
    # Where the base is no ancestor of HEAD, it becomes one, so that Git merges from there; no file changes by it.
    options = ("--no-verify", "--strategy=ours", "--allow-unrelated-histories")
    join = (*command, "Note what the template had rendered here", *options, base)
    aside = _in_git(root, ASIDE)
    try:
        _remove_aside(root)
        git(root, "worktree", "add", "--quiet", "--detach", aside, head)
        git(aside, *join)
        git(aside, *command, message, tip)
        merged = git(aside, "rev-parse", "HEAD")
        if not _in_the_way(root, head, merged):
            _write_note(root, head=head, merged=merged, refs={f"refs/heads/{branch}": tip, "HEAD": merged})
            _put_in_place(root, head, merged)
            return []
    except subprocess.CalledProcessError:  # conflicts, which are for the user to see
        pass
    finally:
        _remove_aside(root)
    _write_note(root, head=head, merged="", refs={})
    try:
        git(root, *join)
        git(root, "update-ref", "-m", "make update", f"refs/heads/{branch}", tip)
        git(root, *command, message, branch)
    except subprocess.CalledProcessError as error:
        conflicts = git(root, "diff", "--name-only", "--diff-filter=U").splitlines()
        if not conflicts:  # it did not even begin, for example since an untracked file is in the way
            reason = " ".join(f"{error.stderr or error.stdout}".split())
            raise UserError(f"git merge {branch} was refused; mend that, and make update again: {reason}") from error
        return conflicts
    finally:
        _in_git(root, NOTE).unlink()
    return []


def finish(root: Path) -> str:
    """Bring an update that was cut off to its end; return its commit, or an empty text where there is none."""
    try:
        note: dict[str, Any] = json.loads(_in_git(root, NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError, subprocess.CalledProcessError):  # the last where there is no repository
        return ""
    head, merged = note["head"], note["merged"]
    for name in ("index", "HEAD", ask(root, "symbolic-ref", "HEAD"), *note["refs"]):  # of a Git that was killed
        _in_git(root, f"{name}.lock").unlink(missing_ok=True)
    try:
        if merged and git(root, "rev-parse", "HEAD") in (head, merged):
            _remove_aside(root)
            git(root, "worktree", "add", "--quiet", "--detach", _in_git(root, ASIDE), merged)
            _require_ours(root, head, merged)
            _put_in_place(root, head, merged)
            return str(merged)
    finally:
        _remove_aside(root)
    dirty = git(root, "status", "--porcelain", "--untracked-files=no")
    _in_git(root, NOTE).unlink()
    if dirty and not _in_git(root, "MERGE_HEAD").exists():
        raise UserError(
            "an update was cut off while Git merged, and left files half merged: git reset --hard goes back to your"
            " last commit, which had all that you had then; then make update again."
        )
    return ""


def _in_git(root: Path, name: str) -> Path:
    """Return the path of something in Git's own folder."""
    return root / git(root, "rev-parse", "--git-path", name)


def _write_note(root: Path, **note: Any) -> None:
    path = _in_git(root, NOTE)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(note), encoding="utf-8")
    new.replace(path)


def _remove_aside(root: Path) -> None:
    """Remove the worktree, also one that was never finished."""
    shutil.rmtree(_in_git(root, ASIDE), ignore_errors=True)
    common = root / git(root, "rev-parse", "--git-common-dir")
    shutil.rmtree(common / "worktrees" / ASIDE, ignore_errors=True)
    with suppress(OSError):  # there are others
        (common / "worktrees").rmdir()


def _changed(root: Path, head: str, merged: str) -> tuple[list[str], list[str]]:
    """List the files that the merge writes, and those that it removes."""
    words = git(root, "diff-tree", "-r", "-z", "--name-status", "--no-renames", head, merged).split("\0")
    pairs = [*zip(words[::2], words[1::2], strict=False)]
    return [name for kind, name in pairs if kind != "D"], [name for kind, name in pairs if kind == "D"]


def _in_the_way(root: Path, head: str, merged: str) -> bool:
    """Whether Git would refuse to write a file, or a folder has to give way to one: then Git itself shall merge."""
    written, removed = _changed(root, head, merged)
    known = set(git(root, "ls-tree", "-r", "-z", "--name-only", head).split("\0"))
    parents = {str(parent) for name in written for parent in Path(name).parents}
    untracked = any(name not in known and os.path.lexists(root / name) for name in written)
    folders = any((root / name).is_dir() and not (root / name).is_symlink() for name in written)
    return untracked or folders or bool(parents & {*removed, *known})


def _require_ours(root: Path, head: str, merged: str) -> None:
    """Refuse to overwrite what is neither the file of before nor that of the merge: the user has edited it since."""
    written, removed = _changed(root, head, merged)
    for name in [*written, *removed]:
        here, there = root / name, _in_git(root, ASIDE) / name
        if not os.path.lexists(here) or (os.path.lexists(there) and _same(here, there)):
            continue
        index = _in_git(root, f"{ASIDE}.index")
        git(root, "read-tree", head, GIT_INDEX_FILE=str(index))
        difference = git(root, "diff-files", "-p", "--", name, GIT_INDEX_FILE=str(index))
        known = git(root, "ls-files", "--", name, GIT_INDEX_FILE=str(index))
        index.unlink()
        if difference or not known:
            raise UserError(f"{name} was edited after an update was cut off: move it away, then make update again.")


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return filecmp.cmp(one, other, shallow=False)


def _put_in_place(root: Path, head: str, merged: str) -> None:
    """Let the files of the worktree take their places, then branch and index; what goes, goes last, as wheels do."""
    written, removed = _changed(root, head, merged)
    aside, note = _in_git(root, ASIDE), json.loads(_in_git(root, NOTE).read_text(encoding="utf-8"))
    for name in written:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        new = root / f"{name}.new"
        new.unlink(missing_ok=True)
        shutil.copy2(aside / name, new, follow_symlinks=False)
        new.replace(root / name)
    for name in removed:
        (root / name).unlink(missing_ok=True)
        with suppress(OSError):  # others are in it
            (root / name).parent.rmdir()
    for ref, commit in note["refs"].items():
        git(root, "update-ref", "-m", "make update", ref, commit)
    git(root, "reset", "--quiet")
    _remove_aside(root)
    _in_git(root, NOTE).unlink()
