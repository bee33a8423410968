"""Stands in for Python, uv and df in a setup that takes no time: writes folders for packages, as slowly as it is told.

A folder that leads the PATH has links of these names to a script that runs this file; pip puts uv into the environment.
As the real ones, it takes a package whose *.dist-info is there for installed, makes that folder before the package is
whole, and finds no pip where pip was not written.

Environment variables: STEP_SECONDS, KILL_AT (the step at which all that belongs to this `make setup` is killed),
FAULT (download or disk), STEPS (a file that counts the steps).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

PACKAGES = ("torch", "samebits")


def step(what: str) -> None:
    """Count a step, and be killed there or go on after a while."""
    counter = Path(os.environ["STEPS"])
    with counter.open("a") as file:
        file.write(f"{what}\n")
    if str(len(counter.read_text().splitlines())) == os.environ.get("KILL_AT"):
        os.killpg(0, signal.SIGKILL)
    time.sleep(float(os.environ.get("STEP_SECONDS", "0")))


def write(package: Path) -> None:
    """Install a package in steps."""
    for folder in (package.with_name(f"{package.name}.dist-info"), package):
        folder.mkdir(parents=True, exist_ok=True)
        step(folder.name)
    for name in ("__init__.py", "last.py"):
        (package / name).touch()
        step(f"{package.name}/{name}")


def is_whole(package: Path) -> bool:
    return (package / "last.py").exists()


def venv(folder: Path) -> None:
    """Make an environment as the module venv does: the folders, the link to Python, then pip."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    step("bin")
    (folder / "pyvenv.cfg").touch()
    step("pyvenv.cfg")
    for name in ("python3.11", "python"):
        (folder / "bin" / name).unlink(missing_ok=True)
        (folder / "bin" / name).symlink_to(os.environ["STAND_IN"])
        step(name)
    write(folder / "lib/pip")


def uv(words: list[str]) -> None:
    """Do what `uv pip sync` does, or fail as it does."""
    library = Path(words[words.index("--python") + 1]).parents[1] / "lib"
    for name in PACKAGES:
        if os.environ.get("FAULT") == "download" and name == PACKAGES[-1]:
            sys.exit("error: Failed to fetch a wheel\n  Caused by: connection reset by peer")
        package = library / name
        if not package.with_name(f"{name}.dist-info").exists():
            write(package)
        if os.environ.get("FAULT") == "disk":
            sys.exit("error: Failed to install: No space left on device (os error 28)")


def pip(library: Path, words: list[str]) -> None:
    """Install the project, setuptools and uv, or remove packages."""
    if "--editable" in words:
        write(library / "project")
    elif words[0] == "uninstall":
        for name in (word for word in words[1:] if not word.startswith("-")):
            if (library / name).exists():
                step(f"no {name}")
                shutil.rmtree(library / name)
                shutil.rmtree(library / f"{name}.dist-info")
    elif "requirements/uv.txt" in words:
        if not (library / "setuptools.dist-info").exists():
            write(library / "setuptools")
        if not (uv := library.parent / "bin/uv").exists():
            uv.symlink_to(os.environ["STAND_IN"])
            step("bin/uv")


def python(path: Path, words: list[str]) -> None:
    """Do what Python does for the script, in an environment where that is whole."""
    library = path.parents[1] / "lib"
    if words[0] == "-c":
        if "version_info" in words[1]:
            print("3.11")
            sys.exit()
        real = os.environ["REAL_PYTHON"]
        os.execv(real, [real, *words])
    elif words[1] == "venv":
        venv(Path(words[-1]))
    elif not is_whole(library / words[1]) and words[1] in ("pip", "setuptools"):
        sys.exit(f"{path}: No module named {words[1]}")
    elif words[1] == "pip":
        pip(library, words[2:])
    else:
        missing = [name for name in ("pip", "setuptools", *PACKAGES, "project") if not is_whole(library / name)]
        if missing:
            sys.exit(f"ModuleNotFoundError: No module named {missing[0]}")
        print("works")


if __name__ == "__main__":
    called, given = Path(sys.argv[1]), sys.argv[2:]
    if called.name == "uv":
        uv(given)
    elif called.name == "df":
        print("Filesystem 1024-blocks Used Available Capacity Mounted on\ndisk 100000 97000 3000 97% /")
    else:
        python(called, given)
