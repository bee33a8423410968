"""Removes what the answers leave out, and makes the Git repository with its first commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ANSWERS = json.loads(bytes.fromhex("{{ cookiecutter | hex_json }}"))
OTHER_CI = {"github": [".gitlab-ci.yml"], "gitlab": [".github"], "none": [".gitlab-ci.yml", ".github"]}


def git(verb: str, *arguments: str) -> None:
    """Run git, also where the user has told it neither name nor e-mail address, and without the user's own hooks."""
    settings = {"core.hooksPath": os.devnull, "commit.gpgsign": "false"}
    for key, value in {"user.name": ANSWERS["author_name"], "user.email": ANSWERS["author_email"]}.items():
        if subprocess.run(["git", "config", key], capture_output=True).returncode:
            settings[key] = value
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    done = subprocess.run(["git", *options, verb, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {verb} failed in the new project: {done.stderr.strip()}")


def main() -> None:
    """Turn the rendered files into a project."""
    for name in OTHER_CI[ANSWERS["ci"]]:
        path = Path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Compose reads this file: what containers write into the project then belongs to whoever made it.
    Path(".env").write_text(f"HOST_UID={os.getuid()}\nHOST_GID={os.getgid()}\n")
    if shutil.which("git") is None:
        with Path(".dvc/config").open("a") as config:
            config.write("    no_scm = true\n")
        print("git was not found, so the project has no history yet: install git, delete `no_scm` from .dvc/config,")
        print("then run: git init && git add . && git commit -m 'Start the project'")
    else:
        git("init", "--quiet", "--initial-branch=main")
        git("add", ".")
        git("commit", "--quiet", "--message", "Start the project from repro-template")
    print(f"Made {ANSWERS['project_slug']}/. Next: cd {ANSWERS['project_slug']} && make train")


main()
