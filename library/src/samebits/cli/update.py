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
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.project import project
from .update_report import report

BRANCH = "template"
MARK = "Rendering"  # trailer of a commit that holds what was rendered, and nothing of the user's: its tree
STATE = ".cruft.json"
COOKIECUTTER = "SAMEBITS_COOKIECUTTER"  # environment variable: a Python that has cookiecutter, instead of a new one


def run(*words: str | Path, cwd: Path | None = None, variables: dict[str, str] | None = None) -> str:
    """Run a command; return what it printed.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, text=True, capture_output=True, check=True)
    return done.stdout.strip()


def last_line(error: subprocess.CalledProcessError) -> str:
    """Return the line in which a failed command says why."""
    lines = f"{error.stdout}\n{error.stderr}".strip().splitlines()
    return lines[-1] if lines else str(error)


@dataclass
class Repository:
    """A Git repository.

    Attributes:
        root: its top folder.
        options: for git, before the verb.
    """

    root: Path
    options: tuple[str, ...] = ()

    def git(self, *words: str | Path) -> str:
        """Run git here; return what it printed."""
        return run("git", *self.options, *words, cwd=self.root)

    def ask(self, *words: str | Path) -> str:
        """Run git here; return an empty text where it fails."""
        try:
            return self.git(*words)
        except subprocess.CalledProcessError:
            return ""

    def sign_as(self, name: str, email: str) -> None:
        """Commit under this name and address where Git knows of none."""
        for key, value in {"user.name": name, "user.email": email}.items():
            if not self.ask("config", key):
                self.options += ("-c", f"{key}={value}")

    def commit(self, tree: str, message: str, *parents: str) -> str:
        """Write a commit, of which index, work tree and branches take no notice."""
        return self.git("commit-tree", tree, *(word for parent in parents for word in ("-p", parent)), "-m", message)

    def commit_rendering(self, tree: str, commit: str, *parents: str) -> str:
        """Write the commit of a rendering of the template's `commit`."""
        return self.commit(tree, f"The template at {commit[:7]}\n\n{MARK}: {tree}", *parents)

    def is_rendering(self, commit: str) -> bool:
        """Whether a commit holds what was rendered and nothing else: a rebase or a squash may put edits into it."""
        found = self.git("show", "--no-patch", f"--format=%T %(trailers:key={MARK},valueonly)", commit).split()
        return len(found) > 1 and found[0] == found[-1]

    def newest_rendering(self) -> str | None:
        """Return the newest of HEAD's ancestors that is a rendering."""
        marked = self.git("log", "--topo-order", "--format=%H", f"--grep=^{MARK}: ", "HEAD").splitlines()
        return next(filter(self.is_rendering, marked), None)


@dataclass(frozen=True)
class State:
    """What `.cruft.json` says."""

    content: dict[str, Any]
    template: str
    commit: str | None  # of the template; None where it was no repository
    answers: dict[str, Any]

    @classmethod
    def read(cls, text: str) -> State:
        """Read the file's text.

        Raises:
            UserError: it is not what cruft or the template wrote.
        """
        try:
            content = json.loads(text)
            answers = content["context"]["cookiecutter"].items()
            # without what cookiecutter and the template add by themselves; but the licence keeps its year
            kept = {key: value for key, value in answers if not key.startswith("_") or key == "__year"}
            return cls(content, content["template"], content["commit"], kept)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{STATE} does not say which template made this project: bring it back with"
                f" git checkout <a commit that has it> -- {STATE}"
            ) from None


def main(arguments: argparse.Namespace) -> None:
    """Update the project.

    Raises:
        UserError: it cannot be done; nothing has been changed then.
        SystemExit: with status 1, the merge has conflicts.
    """
    repository = clean_repository(project().root)
    if not (repository.root / STATE).is_file():
        raise UserError(f"{repository.root} has no {STATE}, so nobody knows its template: cruft link <URL> writes one.")
    known = State.read((repository.root / STATE).read_text(encoding="utf-8"))
    repository.sign_as(known.answers.get("author_name", BRANCH), known.answers.get("author_email", BRANCH))
    with tempfile.TemporaryDirectory(prefix="samebits-update-") as folder:
        template = Template.clone(arguments.source or known.template, Path(folder))
        newest = template.repository.git("rev-parse", "HEAD")
        base = rendering_of(known, repository, template)
        tree = template.render(newest, known, repository)
        different = repository.git("diff-tree", "-r", "--name-only", base, tree).splitlines()
        same_origin = (known.template, known.commit) == (template.address, newest)
        if not different or (same_origin and different == [STATE]):  # cruft writes more into that file
            print(f"Nothing new: the project already holds {template.address} at {newest[:7]}.")
            return
        before = join(repository, base)
        tip = repository.commit_rendering(tree, newest, base)
        repository.git("update-ref", "-m", "make update", f"refs/heads/{BRANCH}", tip)
        conflicts = merge(repository, newest)
        changed = repository.git("diff", "--name-only", before).splitlines()
        print(report(repository.root, before, tip, template.repository.root, known.commit, newest, changed))
    if conflicts:
        print(
            f"\nGit could not merge {', '.join(conflicts)}: resolve the conflicts there, then git add them and"
            " git commit (git merge --abort gives up)."
        )
        sys.exit(1)
    print("\nMerged and committed: git show --first-parent shows it, and make train says whether a run is new.")


def clean_repository(root: Path) -> Repository:
    """Return the project's repository.

    Raises:
        UserError: there is none of its own, or something in it would get into the way of a merge.
    """
    repository = Repository(root)
    if not shutil.which("git"):
        raise UserError("git was not found, and it does the merging: install git.")
    if repository.ask("rev-parse", "--show-cdup") or not repository.ask("rev-parse", "--is-inside-work-tree"):
        raise UserError(f"{root} is not the top folder of a Git repository, so nothing can be merged: git init there.")
    if not repository.ask("rev-parse", "--verify", "HEAD"):
        raise UserError(f"{root} has no commit yet, so nothing can be merged: git add . && git commit first.")
    if repository.git("rev-parse", "--is-shallow-repository") == "true":
        raise UserError(f"{root} is a shallow clone, whose history ends too early: git fetch --unshallow first.")
    if changed := repository.git("status", "--porcelain", "--untracked-files=no").splitlines():
        name = changed[0].split(maxsplit=1)[1]
        others = f" and {len(changed) - 1} more" if changed[1:] else ""
        raise UserError(f"{name}{others} changed and not committed: git commit or git stash first.")
    if repository.ask("symbolic-ref", "--short", "HEAD") == BRANCH:
        raise UserError(f"make update writes the branch {BRANCH}: go to your own one, for example by git switch main.")
    branch = repository.ask("rev-parse", "--verify", "--quiet", f"refs/heads/{BRANCH}")
    if branch and not repository.is_rendering(branch):
        raise UserError(f"make update would overwrite your branch {BRANCH}: git branch --move {BRANCH} <another name>")
    return repository


@dataclass(frozen=True)
class Template:
    """A clone of the template, and the Python that renders it.

    Attributes:
        address: the path or URL that it was cloned from.
        repository: the clone.
        folder: for temporary files.
        python: has cookiecutter.
    """

    address: str
    repository: Repository
    folder: Path
    python: Path

    @classmethod
    def clone(cls, address: str, folder: Path) -> Template:
        """Clone the template: of a folder with changes that are not committed, the last commit."""
        if Path(address).expanduser().exists():
            address = str(Path(address).expanduser().resolve())
        try:
            run("git", "clone", "--quiet", "--", address, folder / "clone")
        except subprocess.CalledProcessError as error:
            raise UserError(
                f"the template could not be cloned from {address} ({last_line(error)}): say where it is with"
                " make update FROM=<path or URL>."
            ) from error
        return cls(address, Repository(folder / "clone"), folder, cookiecutter_python(folder))

    def has(self, commit: str | None) -> bool:
        """Whether the template has had this commit."""
        found = commit and self.repository.ask("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
        return bool(found)

    def render(self, commit: str, known: State, into: Repository, keep_state: bool = False) -> str:
        """Render a commit with the project's answers; questions that are new take their defaults.

        Args:
            commit: of the template.
            known: the project's answers.
            into: the project, whose object store takes the files.
            keep_state: render `.cruft.json` as the project has it.

        Returns:
            The tree.

        Raises:
            UserError: an answer does not suit the template any more.
        """
        self.repository.git("checkout", "--quiet", "--force", "--detach", commit)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        config = folder / "config.json"  # YAML takes JSON; without a config, cookiecutter writes into the user's home
        config.write_text(json.dumps({key: str(folder / key) for key in ("cookiecutters_dir", "replay_dir")}))
        options = ("--no-input", "--config-file", config, "--output-dir", folder / "out")
        answers = [f"{key}={value}" for key, value in known.answers.items()]
        # SAMEBITS_UPDATE: the template's hook makes no repository
        variables = {"PYTHONPATH": "", "SAMEBITS_UPDATE": self.address}
        command = (self.python, "-m", "cookiecutter", self.repository.root)
        try:  # in a folder of its own, since -m imports modules from the working directory first
            run(*command, *options, *answers, cwd=folder, variables=variables)
        except subprocess.CalledProcessError as error:
            raise UserError(
                f"the template does not render with this project's answers ({last_line(error)}): mend them in {STATE},"
                " git commit, and make update again."
            ) from error
        (rendered,) = (folder / "out").iterdir()
        state = known.content
        if not keep_state:  # what the user has added stays, as cruft's `skip`
            context = json.loads((rendered / STATE).read_text(encoding="utf-8"))["context"]
            state = {**state, "template": self.address, "commit": commit, "checkout": None, "context": context}
        text = json.dumps(state, ensure_ascii=False, indent=2, separators=(",", ": "))  # as cruft writes it
        (rendered / STATE).write_text(text + "\n", encoding="utf-8")
        if is_ejected(into.root):  # the library is the user's own source, and its wheel shall not come back
            shutil.rmtree(rendered / "vendor", ignore_errors=True)
            (rendered / "requirements/samebits.txt").unlink(missing_ok=True)
        return write_tree(rendered, folder / "scratch.git", into)


def cookiecutter_python(folder: Path) -> Path:
    """Return a Python with the cookiecutter that the template has locked: of an environment made for this call alone.

    Where the lock cannot be installed, a cookiecutter will do that the running Python has.
    """
    if chosen := os.environ.get(COOKIECUTTER):
        return Path(chosen)
    print("Installing the template's tools into an environment of their own, for this call.", flush=True)
    python = folder / "tools" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r")
    try:
        run(sys.executable, "-m", "venv", folder / "tools", variables={"PYTHONPATH": ""})
        run(*install, folder / "clone/requirements.txt", variables={"PYTHONPATH": ""})
    except subprocess.CalledProcessError as error:
        if find_spec("cookiecutter"):
            return Path(sys.executable)
        raise UserError(
            f"the template's requirements.txt could not be installed ({last_line(error)}): set"
            f" {COOKIECUTTER}=<a Python that has cookiecutter> for make update."
        ) from error
    return python


def is_ejected(root: Path) -> bool:
    """Whether the project has the library as source."""
    return (root / "src/samebits").is_dir() and not any(root.glob("vendor/samebits-*.whl"))


def write_tree(rendered: Path, scratch: Path, into: Repository) -> str:
    """Write rendered files into a repository's object store; return their tree.

    A repository of its own holds the index, so that what the user ignores in `.git/info/exclude` does not matter.
    """
    run("git", "init", "--quiet", "--bare", "--template=", scratch)
    objects = into.root / into.git("rev-parse", "--git-path", "objects")
    variables = {"GIT_OBJECT_DIRECTORY": str(objects)}
    git = ("git", "-c", f"core.excludesFile={os.devnull}", f"--git-dir={scratch}", f"--work-tree={rendered}")
    run(*git, "add", "--all", cwd=rendered, variables=variables)
    return run(*git, "write-tree", cwd=rendered, variables=variables)


def rendering_of(known: State, repository: Repository, template: Template) -> str:
    """Return the commit from which the user's work started: a rendering of the recorded commit, and nothing else.

    Where the history has none (cruft has updated the project, or its commits were squashed), it is rendered again.
    Merged from anything else, Git would take the user's edits for what the template has dropped.

    Raises:
        UserError: neither the history nor the template has it.
    """
    found = repository.newest_rendering()
    if found and State.read(repository.git("show", f"{found}:{STATE}")).commit == known.commit:
        return found
    if known.commit and template.has(known.commit):
        tree = template.render(known.commit, known, repository, keep_state=True)
        return repository.commit_rendering(tree, known.commit, *([found] if found else []))
    if found:
        return found
    raise UserError(
        f"neither this history nor {template.address} has what the project was made from (commit {known.commit}):"
        " name a template that has it with make update FROM=<path or URL>."
    )


def join(repository: Repository, base: str) -> str:
    """Make a rendering an ancestor of HEAD, if it is none, so that Git merges from there; return HEAD.

    No file changes by it.
    """
    head = repository.git("rev-parse", "HEAD")
    if repository.ask("merge-base", head, base) == base:
        return head
    joined = repository.commit(f"{head}^{{tree}}", "Note what the template had rendered here", head, base)
    repository.git("update-ref", "-m", "make update", "HEAD", joined, head)
    return joined


def merge(repository: Repository, commit: str) -> list[str]:
    """Merge the branch into HEAD; return the files with conflicts.

    Raises:
        UserError: Git did not even begin, for example since an untracked file is in the way.
    """
    words = ("merge", "--no-ff", "--no-edit", "-m", f"Merge the template at {commit[:7]}", BRANCH)
    try:
        repository.git(*words)
    except subprocess.CalledProcessError as error:
        conflicts = repository.git("diff", "--name-only", "--diff-filter=U").splitlines()
        if not conflicts:
            said = " ".join(f"{error.stderr or error.stdout}".split())
            raise UserError(f"git merge {BRANCH} was refused; mend that, and make update again: {said}") from error
        return conflicts
    return []


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(description="Bring a newer version of the template, by a merge.")
    described.add_argument(
        "source", nargs="?", metavar="FROM", help=f"path or URL of the template (default: as recorded in {STATE})"
    )
    return described


@contextmanager
def one_sentence() -> Iterator[None]:
    """Print a user's mistake as one sentence, with the exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    with one_sentence():
        main(parser().parse_args())
