"""One training as a command: the same wherever it takes place, in a container or not."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..config import PACKAGE, ROOT
from ..errors import UserError
from ..progress import EVERY
from ..repro.inputs import EXPECTED

# What comes before the training can heed it would kill it: it is sent again until it does
DEAF = ("sh", "-c", 'trap "" INT TERM USR1 USR2; exec "$@"', "sh")
DEAF_TO_CTRL_C = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")


@dataclass(frozen=True)
class Training:
    """What is to be trained; made where the sweep is, and carried out by another process, perhaps on another computer.

    Attributes:
        name: of its files in .cache/sweep/.
        words: its settings.
        log: what it prints.
        expected: the hashes of its inputs; empty where they are not known.
        directory: of the run; None where it is not known.
        container: a .sif file or a Docker image, or None.
        folders: outside of the project's that the container must see.
        gpus: whether the container is to have them.
        root: the project's folder; a worker of Ray may have been started in another one.
        python: of the project's environment; likewise.
    """

    name: str
    words: list[str]
    log: Path
    expected: str = ""
    directory: Path | None = None
    container: str | None = None
    folders: list[Path] = field(default_factory=list)
    gpus: bool = False
    root: Path = ROOT
    python: str = sys.executable

    @property
    def at_node(self) -> Path:
        """The file in which the node says what became of it."""
        return self.log.with_suffix(".node.json")

    def command(self, deaf: tuple[str, ...] = DEAF_TO_CTRL_C) -> list[str]:
        """List the words of the command.

        Args:
            deaf: starts a command that does not heed some signals until it says so itself.
        """
        train = ["-m", f"{PACKAGE.name}.train", *self.words]
        if self.container is None:
            return [*deaf, self.python, *train]
        inside = [*deaf, "python", *train]
        folders = list(map(str, [self.root, *self.folders]))
        values = {"PYTHONPATH": str(self.root / "src"), **self.variables(), "PYTHONUNBUFFERED": "1"}
        settings = [f"{name}={value}" for name, value in values.items()]
        if self.container.endswith(".sif"):
            words = ["apptainer", "exec", "--pwd", str(self.root), *(["--nv"] if self.gpus else [])]
            words += [word for folder in folders for word in ("--bind", folder)]
            words += [word for setting in settings for word in ("--env", setting)]
            return [*deaf, *words, self.container, *inside]
        words = ["docker", "run", "--rm", "--init", "--name", self.container_name, "--workdir", str(self.root)]
        words += ["--user", f"{os.getuid()}:{os.getgid()}", *(["--gpus", "all"] if self.gpus else [])]
        words += [word for folder in folders for word in ("--volume", f"{folder}:{folder}")]
        words += [word for setting in settings for word in ("--env", setting)]
        return [*deaf, *words, self.container, *inside]

    @property
    def container_name(self) -> str:
        """The name of its Docker container, by which one that outlived its job is found."""
        return f"{PACKAGE.name}-{self.name.rpartition('-')[2]}"

    def variables(self) -> dict[str, str]:
        """The environment variables by which it is told how to behave."""
        return {EVERY: "1"} | ({EXPECTED: self.expected} if self.expected else {})

    def environment(self) -> dict[str, str]:
        """All of its environment variables.

        Those by which SLURM describes a job of one process are left out, since Lightning would make itself at home.
        """
        single = os.environ.get("SLURM_NTASKS", "1") == "1"
        kept = {name: value for name, value in os.environ.items() if not (single and name.startswith("SLURM_"))}
        kept.pop(EXPECTED, None)
        return {**kept, **self.variables(), "PYTHONUNBUFFERED": "1"}


def file_name(label: str, digits: str) -> str:
    """Name the files of a run: readable, and its own."""
    return f"{re.sub(r'[^A-Za-z0-9_=.,+-]+', '_', label)[:100]}-{digits}"


def require_container(container: str | None) -> str | None:
    """Return where the container is: a file's absolute path, or an image's name.

    Raises:
        UserError: there is no such file.
    """
    if container is None or not container.endswith(".sif"):
        return container
    path = (ROOT / container).resolve()
    if not path.exists():
        raise UserError(
            f"cluster.container={container} is not there: apptainer build {container} apptainer.def makes it."
        )
    return str(path)
