"""Generating a project as a user would: the cookiecutter command, in a home without any settings."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[1]
SOURCE = TEMPLATE / "{{cookiecutter.project_slug}}"


@dataclass(frozen=True)
class Baked:
    """What one call of cookiecutter left behind: the folder it wrote into, and what it said."""

    folder: Path
    status: int
    output: str

    @property
    def project(self) -> Path:
        """The one generated project."""
        assert self.status == 0, self.output
        (project,) = self.folder.iterdir()
        return project


def bake(
    folder: Path,
    answers: dict[str, str] | None = None,
    *options: str,
    template: str = str(TEMPLATE),
    environment: dict[str, str] | None = None,
    prompts: str | None = None,
) -> Baked:
    """Call cookiecutter, and return what came of it.

    Args:
        folder: where the project goes; made if missing.
        answers: given on the command line.
        options: more of cookiecutter's options.
        template: a path or a URL.
        environment: changes to the environment.
        prompts: what is typed at the prompts; None for --no-input.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = folder.parent / f"home-of-{folder.name}"
    home.mkdir(exist_ok=True)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        **(environment or {}),
    }
    words = [f"{name}={value}" for name, value in (answers or {}).items()]
    silent = ["--no-input"] if prompts is None and "--replay" not in options else []
    done = subprocess.run(
        [sys.executable, "-m", "cookiecutter", template, *silent, "--output-dir", str(folder), *options, *words],
        capture_output=True,
        text=True,
        input=prompts if prompts is not None else "",
        env=variables,
    )
    return Baked(folder, done.returncode, done.stdout + done.stderr)


def files_of(project: Path) -> list[Path]:
    """List the files of a project, without Git's own."""
    return sorted(
        path for path in project.rglob("*") if path.is_file() and ".git" not in path.relative_to(project).parts
    )
