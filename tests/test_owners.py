"""Whoever owns the folder: the container becomes that user before it does anything, and has no capability left.

In a rootless engine (DOCKER_HOST) the numbers are those inside: the caller's own is 0 there.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import IN_A_CONTAINER, Project, give
from .parsing import parse_json

pytestmark = pytest.mark.container

IMAGE = IN_A_CONTAINER
NAME = "owned-by-a-test"
OWNERS = ("0:0", "1000:1000", "1001:100", "54321:54321")
SWITCHING = 0x1C0  # SETGID, SETUID, SETPCAP
CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
LOOK = "cat /proc/self/status && touch written && stat -c owner:%u:%g written"
WAYS_BACK = ("setpriv --reuid=0 true", "setpriv --reuid=4321 true", "su -c true", "chown 4321 written", "chroot / true")


def inside(project: Project, command: str, *options: str, status: int = 0) -> str:
    """Run a command in a container of the service train."""
    run = ("docker", "compose", "--project-name", "owners", "run", "--rm", "--no-deps", "-T", *options, "train")
    shell = () if "--entrypoint" in options else ("sh",)
    return project.run(*run, *shell, "-c", command, status=status)


def words(printed: str) -> dict[str, str]:
    """Read lines of a name, a colon, and more."""
    lines = [line.split(":", 1) for line in printed.splitlines() if ":" in line]
    return {name: rest.strip() for name, rest in lines}


@pytest.fixture
def folder(served: tuple[Project, int], tmp_path: Path) -> Iterator[Project]:
    """Make a folder that holds nothing but compose.yaml, and no .env; the image is there."""
    made = Project(tmp_path / "p")
    made.path.mkdir(0o700 if os.getuid() == 0 else 0o755)  # else the caller could not enter it, either
    shutil.copy(served[0].path / "compose.yaml", made.path)
    before = give(made, "1234:1234")
    yield made
    give(made, before)
    made.run("docker", "compose", "--project-name", "owners", "down")


@pytest.mark.parametrize("owner", OWNERS)
def test_it_becomes_the_owner_who_has_no_capability(folder: Project, owner: str) -> None:
    give(folder, owner)
    found = words(inside(folder, LOOK))
    user, group = owner.split(":")
    assert set(found["Uid"].split()) == {user} and set(found["Gid"].split()) == {group}
    assert found["Groups"] in ("", "0") and found["owner"] == owner
    assert {name: int(found[name], 16) for name in CAPABILITIES} == dict.fromkeys(CAPABILITIES, 0)
    assert found["NoNewPrivs"] == "1"
    tried = inside(folder, "; ".join(f"{way} && echo 'done: {way}'" for way in WAYS_BACK) + "; true")
    assert tried.count("done: ") == (1 if user == "0" else 0), tried  # root may become root, without a capability


def test_control_without_it_the_container_is_root_and_cannot_write(folder: Project) -> None:
    give(folder, "54321:54321")
    printed = inside(folder, "cat /proc/self/status; touch /project/written", "--entrypoint", "sh", status=1)
    found = words(printed)
    assert found["Uid"].split()[0] == "0" and "Permission denied" in printed
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == SWITCHING
    assert "done" in inside(folder, "setpriv --reuid=4321 echo done", "--entrypoint", "sh")


def test_who_begins_without_capabilities_stays(folder: Project) -> None:
    """As in the README's line on strangers, which in a rootless engine says --user 0:0."""
    volume = f"{folder.path}:/project"
    for user in ("4321:4322", "0:0"):
        run = ("docker", "run", "--rm", "--cap-drop", "ALL", "--user", user, "--volume", volume, IMAGE)
        assert folder.run(*run, "sh", "-c", "echo $(id -u):$(id -g)").strip() == user


def test_a_folder_that_changes_hands(folder: Project) -> None:
    """The same container, started again: nothing is left of its first start."""
    run = ("docker", "compose", "--project-name", "owners", "run", "--no-deps", "--detach", "--name", NAME)
    give(folder, "1000:1000")
    folder.run(*run, "train", "sh", "-c", LOOK)
    try:
        folder.run("docker", "wait", NAME)
        give(folder, "54321:54321")
        folder.run("docker", "start", NAME)
        folder.run("docker", "wait", NAME)
        found = re.findall(r"(?m)^(?:Uid:|CapBnd:)\s(\w+)", folder.run("docker", "logs", NAME))
    finally:
        folder.run("docker", "rm", "--force", NAME)
    assert found == ["1000", "0" * 16, "54321", "0" * 16]


def test_programs_from_outside_come_in_as_the_owner(served: tuple[Project, int]) -> None:
    """An editor by the name in .devcontainer/, a person by as-owner; whom Docker itself would take may not write."""
    project, _ = served
    inside = ("docker", "compose", "exec", "-T")
    owner = project.run(*inside, "lab", "as-owner", "stat", "-c", "%u", "/project").strip()
    user = parse_json(project.path / ".devcontainer/devcontainer.json")["remoteUser"]
    writes = ("sh", "-c", "touch models/.x && rm models/.x && id -u")
    assert project.run(*inside, "--user", user, "lab", *writes).strip() == owner
    assert project.run(*inside, "lab", "as-owner", *writes).strip() == owner
    if owner != "0":
        project.run(*inside, "lab", *writes, status=1)
        assert "as-owner" in project.run(*inside, "lab", "make", "setup", status=2)
