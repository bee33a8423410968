"""Removes what the answers leave out, notes where the project comes from, and makes the first commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ANSWERS = json.loads(bytes.fromhex("{{ cookiecutter | hex_json }}"))
ORIGIN = json.loads(bytes.fromhex("{{ cookiecutter | origin | hex_json }}"))
OTHER_CI = {"github": [".gitlab-ci.yml"], "gitlab": [".github"], "none": [".gitlab-ci.yml", ".github"]}
# Set by `make update` to the address of the template: it wants the files alone.
UPDATE = os.environ.get("SAMEBITS_UPDATE")
UNDER_CRUFT = "_commit" in ANSWERS and "_repo_dir" not in ANSWERS


def git(verb: str, *arguments: str) -> str:
    """Run git, also where the user has told it neither name nor e-mail address, and without the user's own hooks."""
    # Without the user's own list of what to ignore, too: it may name a file of the template, as *.whl.
    settings = {"core.hooksPath": os.devnull, "commit.gpgsign": "false", "core.excludesFile": os.devnull}
    for key, value in {"user.name": ANSWERS["author_name"], "user.email": ANSWERS["author_email"]}.items():
        if subprocess.run(["git", "config", key], capture_output=True).returncode:
            settings[key] = value
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    done = subprocess.run(["git", *options, verb, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {verb} failed in the new project: {done.stderr.strip()}")
    return done.stdout.strip()


def of_template(*words: str) -> str | None:
    """Ask git about the template; None where it is no repository of its own, or git is not there."""
    command = ["git", "-C", ORIGIN["folder"], *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance() -> dict[str, Any]:
    """Say which template made the project, of which commit and by which answers, in the format of cruft.

    `make update`, and `cruft update`, render that template again. What is private to this machine is left out, but for
    the template's own folder, where it lies on this machine.
    """
    if UNDER_CRUFT:  # cruft will write this file itself, after the first commit: it shall find it as it would write it
        words = {key: ORIGIN[key] for key in ("checkout", "directory", "skip") if ORIGIN[key] or key != "skip"}
        context = {"cookiecutter": ANSWERS}
        origin = {"template": ANSWERS["_template"], "commit": ANSWERS["_commit"]}
        return {**origin, "checkout": words.pop("checkout"), "context": context, **words}
    template, commit = ANSWERS["_template"], None
    if of_template("rev-parse", "--show-cdup") == "":
        commit = of_template("rev-parse", "--verify", "HEAD")
    if UPDATE:
        template = UPDATE
    elif ANSWERS["_repo_dir"] == ANSWERS["_template"]:
        template = ORIGIN["folder"]  # the answer may be relative to a folder that nobody will know of
    elif commit:
        template = of_template("remote", "get-url", "origin") or template  # cookiecutter's `gh:` means nothing to git
    answers = {key: value for key, value in ANSWERS.items() if not key.startswith("_") or key == "__year"}
    return {
        "template": template,
        "commit": commit,
        "checkout": None if UPDATE else ANSWERS["_checkout"],
        "context": {"cookiecutter": answers},
        "directory": None,
    }


def main() -> None:
    """Turn the rendered files into a project."""
    for name in OTHER_CI[ANSWERS["ci"]]:
        path = Path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if UNDER_CRUFT and ORIGIN.get("command") != "create":
        return  # cruft compares this rendering with another one, and keeps neither
    text = json.dumps(provenance(), ensure_ascii=False, indent=2, separators=(",", ": "))
    Path(".cruft.json").write_text(text + "\n", encoding="utf-8")
    if UPDATE:
        return
    if shutil.which("git") is None:
        with Path(".dvc/config").open("a") as config:
            config.write("    no_scm = true\n")
        print("git was not found, so the project has no history yet: install git, delete `no_scm` from .dvc/config,")
        print("then run: git init && git add . && git commit -m 'Start the project'")
    else:
        overwritten = Path(".git").exists()  # cookiecutter --overwrite-if-exists
        git("init", "--quiet", "--initial-branch=main")
        git("add", ".")
        message = ["--message", "Start the project from repro-template"]
        if not overwritten:
            # `make update` merges from a commit that holds what was rendered and nothing of the user's. This one does,
            # as long as its tree is the one that its message names: a rebase or a squash may put edits into it.
            message += ["--message", f"Rendering: {git('write-tree')}"]
        git("commit", "--quiet", *message)
    print(f"Made {ANSWERS['project_slug']}/. Next: cd {ANSWERS['project_slug']} && make train")


main()
