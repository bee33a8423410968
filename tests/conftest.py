"""Generate once, set up once, train once; all tests look at the same project."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .baking import SOURCE, bake
from .updating import pair

__all__ = ["pair"]  # a fixture
collect_ignore = ["tasks"]  # their tests are the projects'

USER = 1234  # in containers; neither root nor the image's default
TOKEN = "a-token-of-this-test"
# a name for each of the processes that test: the first one that is done removes the images of its own
IN_A_CONTAINER = "-".join(filter(None, ["in-a-container", os.environ.get("PYTEST_XDIST_WORKER")]))
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")
# `make test ARGS=...` called us; a project's own make is called by nobody, says no folder, and has words of its own
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "ARGS"):
    os.environ.pop(name, None)


@dataclass(frozen=True)
class Project:
    """A generated project that has been set up and trained."""

    path: Path

    def run(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run a command in the project as its user would; return what it printed."""
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        done = subprocess.run(
            words,
            cwd=self.path,
            env=environment | variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == status, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def make(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run make in the project."""
        return self.run("make", *words, status=status, **variables)

    def python(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run the project's Python."""
        return self.run(".venv/bin/python", *words, status=status, **variables)

    def state(self) -> dict[str, int]:
        """List when each result was last written."""
        paths = [path for folder in ("data", "models", "reports") for path in (self.path / folder).rglob("*")]
        return {str(path.relative_to(self.path)): path.stat().st_mtime_ns for path in paths}


def lend_environment(owner: Path, other: Path) -> None:
    """Give a project the environment of another one, by hard links: it saves the installation, and a gigabyte."""
    subprocess.run(["cp", "--archive", "--link", str(owner / ".venv"), str(other / ".venv")], check=True)


def fresh(project: Project, folder: Path) -> Project:
    """Generate a project, and give it the environment of another one."""
    made = Project(bake(folder / "out").project)
    lend_environment(project.path, made.path)
    return made


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project with all answers at their defaults, in a path with a space, after `make train`.

    That is alone in writing `train.log` and `packages.txt`, what was installed then; the rest was installed afterwards.
    """
    made = Project(bake(tmp_path_factory.mktemp("with a space") / "my work").project)
    output = made.make("train")
    (made.path.parent / "train.log").write_text(output)
    names = (path.name.partition("-")[0] for path in made.path.glob(".venv/lib/*/site-packages/*.dist-info"))
    (made.path.parent / "packages.txt").write_text(" ".join(names))
    made.make("setup", "EXTRAS=dev")
    return made


@pytest.fixture(scope="session")
def uv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return uv: the one that is there, or the locked one."""
    if found := shutil.which("uv"):
        return found
    folder = tmp_path_factory.mktemp("uv")
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", str(folder)]
    subprocess.run([*words, "-r", str(SOURCE / "requirements/uv.txt")], check=True)
    return str(folder / "bin/uv")


def free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_docker() -> None:
    """Skip without a Docker engine, but fail where it must be there."""
    found = shutil.which("docker") and subprocess.run(["docker", "compose", "ls"], capture_output=True).returncode == 0
    if not found and os.environ.get("REQUIRE_DOCKER"):
        pytest.fail("REQUIRE_DOCKER is set, but no Docker engine with Compose v2 answers")
    if not found:
        pytest.skip("no Docker engine with Compose v2 answers")


def give(project: Project, owner: str) -> str:
    """Give a folder to a user and group, by their numbers in containers; return whose it was."""
    run = ("docker", "run", "--rm", "--user", "0:0", "--entrypoint", "sh", "--volume", f"{project.path}:/project")
    command = f"stat -c %u:%g /project && chown --recursive {owner} /project"
    return project.run(*run, IN_A_CONTAINER, "-c", command).strip()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, int]]:
    """Generate a project for another user, and bring it up: trained, and JupyterLab served at a free port."""
    require_docker()
    project = Project(bake(tmp_path_factory.mktemp("container") / "out", {"project_slug": IN_A_CONTAINER}).project)
    port = free_port()
    env = f"JUPYTER_TOKEN={TOKEN}\nJUPYTER_PORT={port}\nMLFLOW_PORT={free_port()}\n"
    (project.path / ".env").write_text(env)
    if os.getuid() == 0:
        project.run("chown", "--recursive", f"{USER}:{USER}", ".")
    try:
        project.run("docker", "compose", "up", "--detach", "--build")
        yield project, port
    finally:
        everything = ("docker", "compose", "--profile", "tracking", "--profile", "serve")
        project.run(*everything, "logs", "--no-color")
        project.run(*everything, "down", "--timeout", "1", "--rmi", "local", "--volumes")
