"""The locks hold, for each Python and each kind of machine, a file of each package, under its hash."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging import tags
from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

from answer_rules import PYTHON_VERSIONS

from .attacks_setup import generated
from .baking import SOURCE

REQUIREMENTS = SOURCE / "requirements"
OF_INDEX = sorted(lock.name for lock in REQUIREMENTS.glob("*.txt") if lock.name != "samebits.txt")
# The oldest systems that PyTorch's wheels are for.
LINUX = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux"}
MAC = {"sys_platform": "darwin", "os_name": "posix", "platform_system": "Darwin"}
WINDOWS = {"sys_platform": "win32", "os_name": "nt", "platform_system": "Windows"}
GLIBC = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(28, 4, -1))]
MACHINES = {
    "Linux, x86-64": (
        LINUX | {"platform_machine": "x86_64"},
        [f"{name}_x86_64" for name in [*GLIBC, "manylinux1", "linux"]],
    ),
    "Linux, ARM": (LINUX | {"platform_machine": "aarch64"}, [f"{name}_aarch64" for name in [*GLIBC, "linux"]]),
    "macOS 14, ARM": (MAC | {"platform_machine": "arm64"}, list(tags.mac_platforms((14, 0), "arm64"))),
    "Windows, x86-64": (WINDOWS | {"platform_machine": "AMD64"}, ["win_amd64"]),
}
SOURCE_ONLY = {"antlr4-python3-runtime"}  # pure Python, built with the locked setuptools
# PyTorch's CPU build for Linux comes from its own index, which few of the machines that run this can ask: the first
# digits of its wheels' hashes, each as two public locks have it.
CPU_BUILD = {
    "x86_64": {
        "3.11": "6746dbcbeb526eb6",
        "3.12": "4ca4a9394b0c7712",
        "3.13": "3fbf9c9d1f3c10c2",
        "3.14": "d20fa53ee744502f",
    },
    "aarch64": {
        "3.11": "84453b69508ec799",
        "3.12": "6f307c2c32d764ff",
        "3.13": "0b8f7d0423027ae8",
        "3.14": "ca021f9eb2f8345c",
    },
}


def pins(text: str) -> Iterator[tuple[str, str, str, set[str]]]:
    """Read a lock: name, version, marker (may be empty) and hashes of each line."""
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if found := re.match(r"([a-z0-9._-]+)==(\S+)(?: ; (.*?))? --hash", line):
            yield found[1], found[2], found[3] or "", set(re.findall(r"sha256:(\w+)", line))


@cache
def files_of_index(uv: str, lock: str) -> dict[tuple[str, str], dict[str, str]]:
    """Ask the index for the files of each package of a lock: by name and version, hashes by file name."""
    text = (REQUIREMENTS / lock).read_text()
    text = re.sub(r"^torch==.*\+cpu(.*\\\n)*.*\n", "", text, flags=re.MULTILINE)
    words = [
        uv,
        "pip",
        "compile",
        "-",
        "--no-config",
        "--no-deps",
        "--universal",
        "--python-version",
        PYTHON_VERSIONS[0],
    ]
    words += ["--quiet", "--format", "pylock.toml", "--no-header"]
    said = subprocess.run(words, input=text, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return {
        (package["name"], package["version"]): {
            (file.get("name") or file["url"].rpartition("/")[2]): file["hashes"]["sha256"]
            for file in [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        }
        for package in tomllib.loads(said.stdout)["packages"]
    }


def without_a_file(text: str, index: dict[tuple[str, str], dict[str, str]], python: str, machine: str) -> set[str]:
    """List the packages that a machine needs, and of which the lock has no file that it can install."""
    environment, platforms = MACHINES[machine]
    version = tuple(map(int, python.split(".")))
    environment = environment | {"python_version": python, "python_full_version": f"{python}.9"}
    environment |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    fitting = {*tags.cpython_tags(version, platforms=platforms)}
    fitting |= {*tags.compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)}
    missing = set()
    for name, release, marker, hashes in pins(text):
        if "+cpu" in release or (marker and not Marker(marker).evaluate(environment)):
            continue
        files = {file for file, sha256 in index[name, release].items() if sha256 in hashes}
        wheels = (parse_wheel_filename(file)[3] for file in files if file.endswith(".whl"))
        if not any(fitting & wheel for wheel in wheels) and not (name in SOURCE_ONLY and files):
            missing.add(name)
    return missing


@pytest.mark.parametrize("lock", OF_INDEX)
def test_each_machine_finds_a_file_of_each_package(lock: str, uv: str) -> None:
    index, text = files_of_index(uv, lock), (REQUIREMENTS / lock).read_text()
    found = {
        (python, machine): missing
        for python in PYTHON_VERSIONS
        for machine in MACHINES
        if (missing := without_a_file(text, index, python, machine))
    }
    assert not found


def test_control_a_hash_that_is_missing_is_found(uv: str) -> None:
    """A trial run of an installer does not look at hashes: with this one changed, it is content."""
    index, text = files_of_index(uv, "main.txt"), (REQUIREMENTS / "main.txt").read_text()
    (arm,) = (
        sha256
        for (name, _), files in index.items()
        for file, sha256 in files.items()
        if name == "pyyaml" and "cp313-cp313-manylinux" in file and file.endswith("_aarch64.whl")
    )
    changed = text.replace(arm, "0" * 64)
    assert without_a_file(changed, index, "3.13", "Linux, ARM") == {"pyyaml"}
    assert not without_a_file(changed, index, "3.13", "Linux, x86-64")
    assert not without_a_file(changed, index, "3.12", "Linux, ARM")


def test_the_cpu_build_of_pytorch_is_locked_for_both_processors() -> None:
    (locked,) = (
        (marker, hashes)
        for name, release, marker, hashes in pins((REQUIREMENTS / "torch-cpu.txt").read_text())
        if release.endswith("+cpu")
    )
    known = {prefix for versions in CPU_BUILD.values() for prefix in versions.values()}
    assert [set(versions) for versions in CPU_BUILD.values()] == [set(PYTHON_VERSIONS)] * 2
    assert locked[0] == "sys_platform == 'linux'"
    assert {sha256[:16] for sha256 in locked[1]} == known


FAKE_UV = """#!/bin/sh
while [ "$1" != --output-file ]; do shift; done
echo a==1 >"$2"
"""


def test_make_lock_pins_the_base_image_where_docker_can_tell(tmp_path: Path) -> None:
    project = Path(shutil.copytree(generated(), tmp_path / "project", symlinks=True))
    programs = {"uv": project / ".venv/bin/uv", "docker": tmp_path / "bin/docker"}

    def program(name: str, text: str) -> None:
        programs[name].parent.mkdir(parents=True, exist_ok=True)
        programs[name].write_text(text)
        programs[name].chmod(0o755)

    def lock(digest: str, **variables: str) -> tuple[str, dict[str, set[str]]]:
        """Run `make lock` where Docker says this digest; return what it says, and how each file names the base then."""
        program("docker", f"#!/bin/sh\n[ '{digest}' ] && printf 'Name: x\nDigest:    sha256:%s\n' {digest}\n")
        environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "VENV": ".venv"} | variables
        done = subprocess.run(
            ["sh", "requirements/lock.sh"], cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        names = ("Dockerfile", ".binder/Dockerfile", "compose.yaml", "apptainer.def")
        return done.stdout, {
            name: set(re.findall(r"python:[\d.]+-slim-bookworm\S*", (project / name).read_text().replace("}", " ")))
            for name in names
        }

    program("uv", FAKE_UV)
    base = f"python:{(project / '.python-version').read_text().strip()}-slim-bookworm"
    said, named = lock("")
    assert f"{base} is not pinned by digest" in said and all(found == {base} for found in named.values())
    said, named = lock("a" * 64)
    assert f"{base}: sha256:{'a' * 64}" in said
    assert all(found == {f"{base}@sha256:{'a' * 64}"} for found in named.values())
    assert lock("b" * 64)[1] == named  # what is pinned stays
    assert all(found == {f"{base}@sha256:{'b' * 64}"} for found in lock("b" * 64, UPGRADE="1")[1].values())
