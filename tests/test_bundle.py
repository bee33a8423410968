"""A run in one file: the same bytes each time, accepted by the validator, and enough for a stranger without Git."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, lend_environment
from .copies import flip
from .crates import complaints, fill_cache, unzip

pytestmark = pytest.mark.project

METADATA = "ro-crate-metadata.json"
SECRET = "secret-7d6c5b4a"


@pytest.fixture(scope="module")
def bundles(project: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundle the main run twice, and once without its data; unsaved secrets lie about in the project."""
    folder = tmp_path_factory.mktemp("bundles")
    environment, local = project.path / ".env", project.path / ".dvc/config.local"
    environment.write_text(f"TOKEN={SECRET}\n")
    local.write_text(f"['remote \"storage\"']\n    password = {SECRET}\n")
    found = {}
    for name, words in {"whole": [], "again": [], "without data": ["DATA=no"]}.items():
        said = project.make("bundle", *words, GITHUB_TOKEN=SECRET)
        (path,) = (project.path / "dist").iterdir()
        assert f"dist/{path.name}: {path.stat().st_size:,} bytes" in said and "make reproduce" in said
        found[name] = folder / f"{name}.zip"
        path.rename(found[name])
    environment.unlink()
    local.unlink()
    return found


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as zipped:
        return set(zipped.namelist())


@pytest.fixture(scope="module")
def without_git(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which there is no Git and nothing of the user's."""
    folder = tmp_path_factory.mktemp("programs")
    for directory in os.environ["PATH"].split(os.pathsep):
        for program in Path(directory).iterdir() if Path(directory).is_dir() else ():
            if not program.name.startswith("git") and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    return {"PATH": str(folder), "HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def cache(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_cache(tmp_path_factory.mktemp("contexts"), project.path / ".venv")


def test_the_same_run_gives_the_same_bytes(bundles: dict[str, Path]) -> None:
    assert bundles["whole"].read_bytes() == bundles["again"].read_bytes()
    assert bundles["whole"].read_bytes() != bundles["without data"].read_bytes()  # the check can fail


def test_no_secret_and_no_other_run_is_in_it(project: Project, bundles: dict[str, Path], tmp_path: Path) -> None:
    top = unzip(bundles["whole"], tmp_path)
    files = {path.relative_to(top).as_posix(): path.read_bytes() for path in top.rglob("*") if path.is_file()}
    assert [name for name, content in files.items() if SECRET.encode() in content] == []
    assert [name for name, content in files.items() if str(project.path).encode() in content] == []
    tracked = set(project.run("git", "ls-files").split("\n")) - {""}
    made = set(files) - tracked
    beside = ("data/raw/", "data/processed/", "models/main/", "reports/", METADATA, "dvc.lock")
    assert made and [name for name in made if not name.startswith(beside)] == []
    assert tracked - set(files) == set()


@pytest.mark.parametrize("kind", ["whole", "without data"])
def test_the_validator_accepts_it(kind: str, bundles: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    assert complaints(unzip(bundles[kind], tmp_path), cache) == []


def _lose(name: str) -> Callable[[Path, list[dict[str, Any]]], None]:
    def lose(top: Path, graph: list[dict[str, Any]]) -> None:
        for entity in graph:
            if entity["@type"] == "CreateAction" or entity["@id"] == "./":
                entity.pop(name, None)

    return lose


def _lose_weights(top: Path, graph: list[dict[str, Any]]) -> None:
    (top / "models/main/model.safetensors").unlink()


def _stray_term(top: Path, graph: list[dict[str, Any]]) -> None:
    graph[0]["favouriteColour"] = "blue"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lose("instrument"), "REQUIRED: The Action MUST have an instrument"),
        (_lose("license"), "REQUIRED: "),
        (_lose("conformsTo"), "REQUIRED: The Root Data Entity MUST reference a CreativeWork"),
        (_lose("endTime"), "RECOMMENDED: The Action SHOULD have an endTime"),
        (_lose_weights, "does not include the Data Entity 'models/main/model.safetensors'"),
        (_stray_term, "favouriteColour"),
    ],
)
def test_the_validator_can_refuse(
    spoil: Callable[[Path, list[dict[str, Any]]], None],
    words: str,
    bundles: dict[str, Path],
    cache: Path,
    tmp_path: Path,
) -> None:
    top = unzip(bundles["whole"], tmp_path)
    crate = json.loads((top / METADATA).read_text())
    spoil(top, crate["@graph"])
    (top / METADATA).write_text(json.dumps(crate))
    assert [each for each in complaints(top, cache) if words in each]


@pytest.mark.parametrize("kind", ["whole", "without data"])
def test_a_stranger_reproduces_it_without_git(
    kind: str, project: Project, bundles: dict[str, Path], without_git: dict[str, str], tmp_path: Path
) -> None:
    """Only Python and make: no history, no storage, no settings of the user; the packages are there already."""
    stranger = Project(unzip(bundles[kind], tmp_path / "a stranger's"))
    assert shutil.which("git", path=without_git["PATH"]) is None
    lend_environment(project.path, stranger.path)
    assert (stranger.path / "data/processed").exists() == (kind == "whole")
    said = stranger.make("reproduce", **without_git)  # type: ignore[arg-type] # no name is `status`
    assert "\nIDENTICAL " in said and "(in models/main)" in said
    if kind == "whole":  # what was changed after unpacking is noticed; the run can be bundled again; DVC does its work
        stranger.make("bundle", **without_git)  # type: ignore[arg-type]
        (again,) = (stranger.path / "dist").iterdir()
        assert names(bundles[kind]) - names(again) == set()
        assert {name.split("/")[-1].split("-")[-1] for name in names(again) - names(bundles[kind])} == {
            "IDENTICAL.json",
            "reproduction.md",
        }
        stranger.make("data", **without_git)  # type: ignore[arg-type]
        flip(stranger.path / "models/main/model.safetensors", -1)
        said = stranger.make("reproduce", status=2, **without_git)
        assert "\nTAMPERED " in said
        with pytest.raises(AssertionError, match="was edited after it was trained"):
            stranger.make("bundle", **without_git)  # type: ignore[arg-type]


def test_what_does_not_fit_the_record_is_refused(project: Project, tmp_path: Path) -> None:
    """Weights and data are those of the record, or there is no bundle."""
    weights, labels = (
        project.path / "models/main/model.safetensors",
        project.path / "data/processed/digits/val_labels.npy",
    )
    for path, words in ((weights, "the tensor"), (labels, "the data here are not those of models/main")):
        kept = tmp_path / path.name
        shutil.copy2(path, kept)
        flip(path, -1)
        said = project.make("bundle", "RUN=models/main", status=2)
        subprocess.run(["cp", "--preserve", "--remove-destination", kept, path], check=True)
        assert words in said and "Traceback" not in said
    assert not list((project.path / "dist").iterdir())
    assert "there is no variable DATAS" in project.make("bundle", "DATAS=no", status=2)


def test_a_stranger_reproduces_it_without_a_network(project: Project, tmp_path: Path) -> None:
    """The locked packages are in it, in two parts: no interface of a network, nobody's home, and nothing in a cache."""
    said = project.make("bundle", "WHEELS=yes", "PART=0.25")
    sizes = re.search(r"Fetching (\d+) packages, [\d,]+ MB(?:.*\n)*?Writing ([\d,]+) MB into dist", said)
    parts = sorted((project.path / "dist").iterdir())
    assert sizes and [path.name[-11:] for path in parts] == [".1-of-2.zip", ".2-of-2.zip"], said
    assert int(sizes[2].replace(",", "")) * 1e6 * 1.01 > sum(path.stat().st_size for path in parts)
    folder = tmp_path / "a stranger's"
    for path in parts:  # as anybody would, in any order
        zipfile.ZipFile(path).extractall(folder)
        path.unlink()
    (top,) = folder.iterdir()
    assert len(list((top / "offline/wheels").iterdir())) == int(sizes[1])
    assert "> No network is needed: " in (top / "README.md").read_text()
    home = tmp_path / "home"
    home.mkdir()
    alone = ["unshare", "--map-root-user", "--net", "env", "-i", f"HOME={home}", f"PATH={os.environ['PATH']}"]
    stranger = Project(top)
    reached = "import socket; socket.create_connection(('127.0.0.1', 1))"
    assert "Network is unreachable" in stranger.run(*alone, sys.executable, "-c", reached, status=1)
    assert "\nIDENTICAL " in stranger.run(*alone, "make", "reproduce")
    assert "Adding the locked packages of dev" in stranger.run(*alone, "make", "lint")  # whose packages are there, too
    stranger.make("clean")
    wheel = next((top / "offline/wheels").glob("rich-*"))
    flip(wheel, -1)
    said = stranger.run(*alone, "make", "reproduce", status=2)
    (sentence,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert f"offline/wheels/{wheel.name} is missing, or not as it was packed" in sentence
