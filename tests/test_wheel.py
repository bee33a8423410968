"""The wheel that projects get is what library/ builds, byte for byte, and an installer refuses any other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from vendoring import LIBRARY, build, lock

from .baking import SOURCE, TEMPLATE, bake
from .conftest import Project, fresh

(WHEEL,) = (SOURCE / "vendor").iterdir()
LOCK = SOURCE / "requirements/samebits.txt"
STALE = "library/ has changed since the wheel was built: run `make wheel`"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of the library, written by another user's habits, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("else where")
    before = os.umask(0o077)
    try:
        unwanted = shutil.ignore_patterns(".venv", "__pycache__", "*_cache")
        shutil.copytree(LIBRARY, folder / "library", ignore=unwanted, copy_function=shutil.copyfile)
        (folder / "library/src/samebits/__init__.py").chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
            patch.setenv("TZ", "Asia/Kathmandu")
            build(folder / "library", folder)
    finally:
        os.umask(before)
    return folder


def repack(wheel: Path) -> None:
    """Write the wheel anew, with one more line in one file."""
    with zipfile.ZipFile(wheel) as old:
        entries = [(entry, old.read(entry)) for entry in old.infolist()]
    with zipfile.ZipFile(wheel, "w") as new:
        for entry, content in entries:
            new.writestr(entry, content + b"# one more line\n" * (entry.filename == "samebits/__init__.py"))


def test_the_library_builds_the_committed_wheel(tmp_path: Path) -> None:
    assert build(LIBRARY, tmp_path).read_bytes() == WHEEL.read_bytes(), STALE


def test_so_it_does_elsewhere_and_with_other_permissions(rebuilt: Path) -> None:
    assert (rebuilt / WHEEL.name).read_bytes() == WHEEL.read_bytes(), STALE


def test_a_changed_comment_gives_another_wheel(rebuilt: Path, tmp_path: Path) -> None:
    library = shutil.copytree(rebuilt / "library", tmp_path / "library")
    with (library / "src/samebits/engine/files.py").open("a") as module:
        module.write("# a comment\n")
    assert build(library, tmp_path).read_bytes() != WHEEL.read_bytes()


def test_the_version_is_one_and_the_lock_names_this_wheel() -> None:
    about = tomllib.loads((LIBRARY / "pyproject.toml").read_text())["project"]
    text = (LIBRARY / "src/samebits/engine/__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+?)"', text, re.MULTILINE)
    assert found and found[1] == about["version"]
    assert WHEEL.name == f"samebits-{about['version']}-py3-none-any.whl"
    assert (SOURCE / "pyproject.toml").read_text().count(f"vendor/{WHEEL.name}") == 2  # for pip, for uv
    changes = (LIBRARY / "CHANGELOG.md").read_text().splitlines()
    assert [line for line in changes if re.fullmatch(rf"## {re.escape(about['version'])} · contract \d+", line)]
    assert LOCK.read_text() == lock(WHEEL)


def test_the_wheel_holds_all_that_the_library_reads(rebuilt: Path) -> None:
    with zipfile.ZipFile(WHEEL) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("samebits/")}
    source = rebuilt / "library/src"
    assert names == {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {"samebits/py.typed", "samebits/configs/determinism/portable.yaml"} <= names
    assert {Path(name).suffix for name in names} == {".py", ".typed", ".yaml", ".json", ".html", ".md", ".tex", ".css"}


def test_the_project_asks_for_extras_that_there_are() -> None:
    project = (SOURCE / "pyproject.toml").read_text()
    asked = re.findall(r'^    "samebits\[(.+)\].*",$', project, re.MULTILINE)  # by trainings, by the group dev
    extras = tomllib.loads((LIBRARY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    apart = {"all", "ray", "service"}  # the project has extras of its own, ray and serve, with what these need
    assert len(asked) == 2 and sorted(",".join(asked).split(",")) == sorted(set(extras) - apart)
    assert set(re.findall(r"[a-z]+", extras["all"][0])) - {"samebits"} == set(extras) - {"all"}


def test_a_project_carries_the_wheel_as_it_is(tmp_path: Path) -> None:
    project = bake(tmp_path / "out").project
    assert (project / "vendor" / WHEEL.name).read_bytes() == WHEEL.read_bytes()
    assert (project / "requirements/samebits.txt").read_bytes() == LOCK.read_bytes()
    for folder in (TEMPLATE, project):
        path = WHEEL.relative_to(TEMPLATE) if folder == TEMPLATE else Path("vendor", WHEEL.name)
        words = ["git", "check-attr", "text", "diff", "--", str(path)]
        said = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout
        assert said.count(": unset\n") == 2  # binary


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_repacked_wheel_is_refused(installer: str, uv: str, tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    shutil.copyfile(WHEEL, tmp_path / "vendor" / WHEEL.name)
    shutil.copyfile(LOCK, tmp_path / "samebits.txt")
    command = {"uv": [uv, "pip", "install", "--offline"], "pip": [sys.executable, "-m", "pip", "install", "--no-index"]}
    options = ["--no-deps", "--require-hashes", "--target", "installed", "-r", "samebits.txt"]

    def install() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command[installer], *options], cwd=tmp_path, capture_output=True, text=True)

    assert install().returncode == 0
    assert (tmp_path / "installed/samebits/__init__.py").exists()
    shutil.rmtree(tmp_path / "installed")
    repack(tmp_path / "vendor" / WHEEL.name)
    refused = install()
    assert refused.returncode != 0 and "hash" in refused.stderr.lower(), refused.stderr
    assert not (tmp_path / "installed/samebits").exists()


@pytest.mark.project
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_setup_follows_the_wheel_that_the_project_holds(installer: str, project: Project, tmp_path: Path) -> None:
    copy = fresh(project, tmp_path)
    wheel, locked = copy.path / "vendor" / WHEEL.name, copy.path / "requirements/samebits.txt"

    def setup(status: int = 0) -> str:
        return copy.make("setup", f"INSTALLER={installer}", status=status)

    def installed() -> str:
        return Path(copy.python("-c", "import samebits; print(samebits.__file__)").strip()).read_text()

    setup()
    assert "one more line" not in installed()
    repack(wheel)
    locked.write_text(locked.read_text() + "# touched\n")
    assert "sha256" in setup(status=2)  # it is not the wheel that is locked
    locked.write_text(lock(wheel))
    setup()
    assert "one more line" in installed()  # though its version is the same
    assert setup() == ""

    # what make eject does, as far as the environment is concerned
    shutil.unpack_archive(wheel, copy.path / "src", "zip")
    (about,) = (copy.path / "src").glob("*.dist-info")
    shutil.rmtree(about)
    shutil.rmtree(copy.path / "vendor")
    locked.unlink()
    setup()
    place = copy.python("-c", "import samebits; print(samebits.__file__)").strip()
    assert Path(place).is_relative_to(copy.path / "src")
    assert not [*(copy.path / ".venv").glob("lib/*/site-packages/samebits*")]
