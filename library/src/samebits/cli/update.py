"""Bring a newer version of the template into a project, by an ordinary merge: `make update [FROM=<path or URL>]`.

The template is rendered with the answers that `.cruft.json` holds, in an environment that is not the project's. Each
rendering is a commit on the branch `template`, whose parent is the rendering before, so that Git's own three-way merge
keeps what the user has changed since.

Run as `PYTHONPATH=vendor/samebits-<version>-py3-none-any.whl python3 -m samebits.cli.update`: it needs the standard
library alone, since the project's environment may be what has to be mended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.project import project
from .merging import ask, finish, git, merge, run

BRANCH = "template"
MARK = "Rendering"  # trailer of a commit that holds what was rendered, and nothing of the user's: its tree
STATE = ".cruft.json"
COOKIECUTTER = "SAMEBITS_COOKIECUTTER"  # environment variable: a Python that has cookiecutter, instead of a new one
WHEEL = re.compile(r"vendor/samebits-(?P<version>[^-/]+)-py3-none-any\.whl")
CONTRACT = re.compile(r"^CONTRACT(?:\s*:\s*[\w\[\]]+)?\s*=\s*(\d+)", re.MULTILINE)
# Files that name a run, besides the library: a change of them in a merge may give runs new names.
NAMES_RUNS = re.compile(r"(configs|src)/|requirements/(main|torch-.*)\.txt$|dvc\.yaml$")
MOST_COMMITS = 30  # that are listed
State = dict[str, Any]  # what `.cruft.json` says


def main(arguments: argparse.Namespace) -> None:
    """Update the project; leave with the exit status 1 where the merge has conflicts."""
    root = project().root
    if shutil.which("git") and (finished := finish(root)):
        print(f"The update that was cut off is at its end: git show --first-parent {finished[:7]} shows it.")
    require_mergeable(root)
    if not (root / STATE).is_file():
        raise UserError(f"{root} has no {STATE}, so nobody knows its template: cruft link <URL> writes one.")
    state = read_state((root / STATE).read_text(encoding="utf-8"))
    for key in ("name", "email"):  # the author commits, where Git knows of nobody
        if not ask(root, "config", f"user.{key}"):
            for role in ("AUTHOR", "COMMITTER"):
                os.environ.setdefault(f"GIT_{role}_{key.upper()}", answers(state).get(f"author_{key}", BRANCH))
    with tempfile.TemporaryDirectory(prefix="samebits-update-") as folder:
        template = Template(arguments.source or state["template"], Path(folder))
        newest = git(template.clone, "rev-parse", "HEAD")
        base = merge_base(root, state, template)
        tree = template.render(newest, state, root)
        different = git(root, "diff-tree", "-r", "--name-only", base, tree).splitlines()
        same_origin = (state["template"], state["commit"]) == (template.address, newest)
        if not different or (same_origin and different == [STATE]):  # cruft writes more into that file
            print(f"Nothing new: the project already holds {template.address} at {newest[:7]}.")
            return
        head, library = git(root, "rev-parse", "HEAD"), library_in(root)
        message, tip = f"Merge the template at {newest[:7]}", commit_rendering(root, tree, newest, base)
        conflicts = merge(root, base, tip, BRANCH, message)
        changed = [name for name in git(root, "diff", "--name-only", head).splitlines() if name != STATE]
        print("\n".join(report(root, library, template.clone, state["commit"], newest, changed)))
    if conflicts:
        print(
            f"\nGit could not merge {', '.join(conflicts)}: resolve the conflicts there, then git add them and"
            " git commit (git merge --abort gives up)."
        )
        sys.exit(1)
    print("\nMerged and committed: git show --first-parent shows it, and make train says whether a run is new.")


def require_mergeable(root: Path) -> None:
    """Refuse a project without a repository of its own, or with something in it that would get into a merge's way."""
    if not shutil.which("git"):
        raise UserError("git was not found, and it does the merging: install git.")
    if ask(root, "rev-parse", "--show-cdup") or not ask(root, "rev-parse", "--is-inside-work-tree"):
        raise UserError(f"{root} is not the top folder of a Git repository, so nothing can be merged: git init there.")
    if not ask(root, "rev-parse", "--verify", "HEAD"):
        raise UserError(f"{root} has no commit yet, so nothing can be merged: git add . && git commit first.")
    if git(root, "rev-parse", "--is-shallow-repository") == "true":
        raise UserError(f"{root} is a shallow clone, whose history ends too early: git fetch --unshallow first.")
    if changed := git(root, "status", "--porcelain", "--untracked-files=no").splitlines():
        name = changed[0].split(maxsplit=1)[1]
        others = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise UserError(f"{name}{others} changed and not committed: git commit or git stash first.")
    if ask(root, "symbolic-ref", "--short", "HEAD") == BRANCH:
        raise UserError(f"make update writes the branch {BRANCH}: go to your own one, for example by git switch main.")
    branch = ask(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}")
    if branch and not renderings(root, "--no-walk", branch):
        raise UserError(f"make update would overwrite your branch {BRANCH}: git branch --move {BRANCH} <another name>")


def read_state(text: str) -> State:
    """Read the text of `.cruft.json`; refuse what neither cruft nor the template wrote."""
    try:
        state: State = json.loads(text)
        if isinstance(state["template"], str) and {"commit"} <= state.keys() and answers(state) is not None:
            return state
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(
        f"{STATE} does not say which template made this project: bring it back with"
        f" git checkout <a commit that has it> -- {STATE}"
    )


def answers(state: State) -> dict[str, Any]:
    """Return the answers, without what cookiecutter and the template add by themselves; the licence keeps its year."""
    given = state["context"]["cookiecutter"].items()
    return {key: value for key, value in given if not key.startswith("_") or key == "__year"}


class Template:
    """A clone of the template, and the Python that renders it; of a folder, its last commit."""

    def __init__(self, address: str, folder: Path) -> None:
        path = Path(address).expanduser()
        self.address = str(path.resolve()) if path.exists() else address
        self.folder, self.clone = folder, folder / "clone"
        failure = f"the template could not be cloned from {self.address} (REASON): say where it is with make update"
        failure += " FROM=<path or URL>."
        run("git", "clone", "--quiet", "--", self.address, self.clone, failure=failure)
        self.python = cookiecutter_python(folder, self.clone / "requirements.txt")

    def render(self, commit: str, state: State, root: Path, keep_state: bool = False) -> str:
        """Render a commit of the template with the project's answers into the project's object store; return the tree.

        Questions that are new take their defaults; `keep_state` renders `.cruft.json` as the project has it.
        """
        git(self.clone, "checkout", "--quiet", "--force", "--detach", commit)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        config = folder / "config.json"  # YAML takes JSON; without a config, cookiecutter writes into the user's home
        config.write_text(json.dumps({key: str(folder / key) for key in ("cookiecutters_dir", "replay_dir")}))
        options = ("--no-input", "--config-file", str(config), "--output-dir", str(folder / "out"))
        given = [f"{key}={value}" for key, value in answers(state).items()]
        # SAMEBITS_UPDATE: the template's hook makes no repository
        variables = {"PYTHONPATH": "", "SAMEBITS_UPDATE": self.address}
        failure = (
            f"the template does not render with this project's answers (REASON): mend them in {STATE}, git commit,"
        )
        failure += " and make update again."
        # in a folder of its own, since -m imports modules from the working directory first
        run(self.python, "-m", "cookiecutter", self.clone, *options, *given, cwd=folder, failure=failure, **variables)
        (rendered,) = (folder / "out").iterdir()
        if not keep_state:  # what the user has added stays, as cruft's `skip`
            context = json.loads((rendered / STATE).read_text(encoding="utf-8"))["context"]
            state = {**state, "template": self.address, "commit": commit, "checkout": None, "context": context}
        text = json.dumps(state, ensure_ascii=False, indent=2, separators=(",", ": "))  # as cruft writes it
        (rendered / STATE).write_text(text + "\n", encoding="utf-8")
        if is_ejected(root):  # the library is the user's own source, and its wheel shall not come back
            shutil.rmtree(rendered / "vendor", ignore_errors=True)
            (rendered / "requirements/samebits.txt").unlink(missing_ok=True)
        # A repository of its own holds the index, so that what the user ignores in .git/info/exclude does not matter.
        own = (
            f"--git-dir={folder / 'scratch.git'}",
            f"--work-tree={rendered}",
            "-c",
            f"core.excludesFile={os.devnull}",
        )
        objects = str(root / git(root, "rev-parse", "--git-path", "objects"))
        git(folder, "init", "--quiet", "--bare", "--template=", "scratch.git")
        git(rendered, *own, "add", "--all", GIT_OBJECT_DIRECTORY=objects)
        return git(rendered, *own, "write-tree", GIT_OBJECT_DIRECTORY=objects)


def cookiecutter_python(folder: Path, lock: Path) -> Path:
    """Return a Python with the cookiecutter that the template has locked; failing that, with any at hand."""
    if chosen := os.environ.get(COOKIECUTTER):
        return Path(chosen)
    print("Installing the template's tools into an environment of their own, for this call.", flush=True)
    python = folder / "tools" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock)
    failure = "the template's requirements.txt could not be installed (REASON): set"
    failure += f" {COOKIECUTTER}=<a Python that has cookiecutter> for make update."
    try:
        run(sys.executable, "-m", "venv", folder / "tools", failure=failure, PYTHONPATH="")
        run(python, *install, failure=failure, PYTHONPATH="")
    except UserError:
        if not find_spec("cookiecutter"):
            raise
        return Path(sys.executable)
    return python


def is_ejected(root: Path) -> bool:
    """Whether the project has the library as source."""
    return (root / "src/samebits").is_dir() and not any(root.glob("vendor/samebits-*.whl"))


def commit_rendering(root: Path, tree: str, commit: str, *parents: str) -> str:
    """Write the commit of a rendering of the template's `commit`, which is on no branch."""
    options = [option for parent in parents for option in ("-p", parent)]
    return git(root, "commit-tree", tree, *options, "-m", f"The template at {commit[:7]}\n\n{MARK}: {tree}")


def renderings(root: Path, *arguments: str) -> list[str]:
    """List the commits, of those that these arguments of `git log` choose, that hold a rendering and nothing else.

    A commit that only says so may be one into which a rebase or a squash has put edits of the user's.
    """
    form = f"--format=%H %T %(trailers:key={MARK},valueonly,separator=%x20)"
    marked = git(root, "log", "--topo-order", form, f"--grep=^{MARK}: ", *arguments).splitlines()
    return [commit for commit, tree, *marks in map(str.split, marked) if marks and marks[-1] == tree]


def merge_base(root: Path, state: State, template: Template) -> str:
    """Return the commit from which the user's work started: a rendering of the recorded commit, and nothing else.

    Where the history has none (cruft has updated the project, or its commits were squashed), it is rendered again.
    Merged from anything else, Git would take the user's edits for what the template has dropped.
    """
    recorded, found = state["commit"], renderings(root, "HEAD")[:1]
    if found and read_state(git(root, "show", f"{found[0]}:{STATE}"))["commit"] == recorded:
        return found[0]
    if has_commit(template.clone, recorded):
        return commit_rendering(root, template.render(recorded, state, root, keep_state=True), recorded, *found)
    if found:
        return found[0]
    raise UserError(
        f"neither this history nor {template.address} has what the project was made from (commit {recorded}):"
        " name a template that has it with make update FROM=<path or URL>."
    )


def has_commit(root: Path, commit: str | None) -> bool:
    """Whether a repository has a commit."""
    return bool(commit and ask(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"))


def library_in(root: Path) -> tuple[str | None, int | None]:
    """Read version and contract of the library from the wheel that the project has; None where they are unknown."""
    for name in git(root, "ls-files", "vendor/").splitlines():
        if (found := WHEEL.fullmatch(name)) and (root / name).is_file():
            with zipfile.ZipFile(root / name) as wheel:
                modules = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".py"))
                contract = next(filter(None, map(CONTRACT.search, modules)), None)
            return found["version"], int(contract[1]) if contract else None
    return None, None


def report(
    root: Path, library: tuple[str | None, int | None], template: Path, old: str | None, new: str, changed: list[str]
) -> list[str]:
    """List what has come from a template since its commit `old`; `library` is that of before the merge."""
    lines = [f"template  {old[:7] if old else 'unknown'} → {new[:7]}"]
    if has_commit(template, old):
        commits = git(template, "log", "--format=%h %s", f"{old}..{new}").splitlines()
        lines[0] += "" if commits or old == new else " (an older one than the project had)"
        lines += [f"  {commit}" for commit in commits[:MOST_COMMITS]]
        lines += [f"  and {len(commits) - MOST_COMMITS} more"] if len(commits) > MOST_COMMITS else []
    else:
        lines[0] += " (what lies between is unknown: this template has no such commit)"
    renaming = [*filter(NAMES_RUNS.match, changed)]
    (version, contract), (now, new_contract) = library, library_in(root)
    if is_ejected(root):
        lines.append("samebits  is ejected: src/samebits stays as it is")
    else:
        lines.append(f"samebits  {version or 'none'} → {now or 'none'}")
        if contract is None or new_contract is None:
            effect = "unknown: make reproduce will say whether bits change"
        elif contract == new_contract:
            effect = f"{contract} → {new_contract}: no training's bits change, no run is renamed"
            effect += " by the library" if renaming else ""
        else:
            effect = f"{contract} → {new_contract}: some trainings' bits change, so runs get new names; the old ones"
            effect += " stay, and make reproduce CODE=recorded trains them as they were"
        lines.append(f"contract  {effect}")
    lines += [f"runs      may get new names by changes in {', '.join(renaming)}"] if renaming else []
    lines += changelog(template / "library/CHANGELOG.md", version, now) if version and now else []
    return [*lines, f"files     {', '.join(changed)}" if changed else "files     none of the project's own changes"]


def changelog(path: Path, old: str, new: str) -> list[str]:
    """Return the lines of the library's changelog from one version to another."""

    def numbers(version: str) -> list[int]:
        return [*map(int, re.findall(r"\d+", version))]

    lines = []
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        version = re.match(r"## \D*(\d+(?:\.\d+)+)", section)
        if version and numbers(old) < numbers(version[1]) <= numbers(new):
            lines += [f"  {line}".rstrip() for line in section.strip().splitlines()]
    return lines


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(description="Bring a newer version of the template, by a merge.")
    described.add_argument("source", nargs="?", metavar="FROM", help="path or URL of it (default: the recorded one)")
    return described


if __name__ == "__main__":
    try:
        main(parser().parse_args())
    except UserError as error:
        parser().exit(2, f"error: {error}\n")
