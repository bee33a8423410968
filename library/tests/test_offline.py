"""What goes into a bundle for where no network is: the files of the locks, by uv and pip, from a folder of wheels."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .project import UserError, module

offline, archive = module("samebits.bundle.offline"), module("samebits.bundle.archive")
bundles = module("samebits.bundle.bundle")
Wanted = offline.Wanted
WHEELS_ALONE = Wanted(wheels=True)
MINOR = platform.python_version().rpartition(".")[0]
CPYTHON = f"cp{MINOR.replace('.', '')}"
PACKAGES = {"alpha": "1.0", "torch": "2.0+cpu", "uv": "3.0", "setuptools": "4.0", "tracker": "5.0"}
PACKAGES |= {"Old_Name": "1.0"} if int(platform.python_version_tuple()[2]) < 5 else {"Old_Name": "2.0"}
LOCKS = {
    "main": (
        "alpha==1.0",
        f"old-name==1.0 ; python_full_version < '{MINOR}.5'",
        f"old-name==2.0 ; python_full_version >= '{MINOR}.5'",
    ),
    "torch-cpu": ("torch==2.0+cpu ; sys_platform != 'none'",),
    "torch-cuda": ("torch==2.0",),
    "uv": ("uv==3.0",),
    "build": ("setuptools==4.0",),
    "tracker": ("tracker==5.0",),
    "other": ("other==6.0",),
    "dev": ("tool==7.0",),
}
SYSCONFIG = b"# system configuration generated and used by the sysconfig module\nbuild_time_vars = {}\n"
WHEELS = (
    "alpha-1.0",
    "old_name-1.0",
    "old_name-2.0",
    "torch-2.0+cpu",
    "uv-3.0",
    "setuptools-4.0",
    "tracker-5.0",
    "tool-7.0",
)


def wheel(folder: Path, name: str, content: str = "") -> Path:
    """Write a wheel that has nothing but its description."""
    package, _, version = name.partition("-")
    path = folder / f"{name}-{CPYTHON if package == 'torch' else 'py3'}-none-any.whl"
    with zipfile.ZipFile(path, "w") as written:
        about = f"{name}.dist-info"
        written.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{content}")
        written.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        written.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as it goes into a bundle, and wheels for its locks in a folder that stands for the index."""
    index, tree = tmp_path / "index", tmp_path / "a tree"
    index.mkdir()
    (tree / "requirements").mkdir(parents=True)
    for lock, pins in LOCKS.items():
        lines = []
        for pin in pins:
            path = wheel(index, pin.partition(" ")[0].replace("==", "-").replace("old-name", "old_name"))
            lines.append(f"{pin} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
        (tree / f"requirements/{lock}.txt").write_text("".join(lines))
    (tree / "requirements/offline.sh").touch()
    (tree / "requirements/torch-source.sh").write_text('[ -n "$version" ] || exit 9\n')
    (tree / ".python-version").write_text(f"{MINOR}\n")
    (tree / "README.md").write_text("> Runs the code\n> of others.\n\n# Title\n")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    return tree


def record(**other: Any) -> dict[str, Any]:
    system = {"os": f"{platform.system()} 1", "machine": platform.machine()}
    environment = {"python": platform.python_version(), "system": system, "packages": PACKAGES} | other
    return {"run": "a-run", "environment": environment}


def collect(tree: Path, wanted: Any = WHEELS_ALONE, **other: Any) -> list[str]:
    return list(offline.collect(record(**other), tree, wanted))


def test_every_package_of_the_runs_environment_is_there(tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert collect(tree) == []
    found = {path.name: path for path in (tree / "offline/wheels").iterdir()}
    assert sorted(found) == sorted(
        path.name for path in (tree.parent / "index").iterdir() if path.name.startswith(WHEELS)
    )
    sums = [line.split("  wheels/") for line in (tree / "offline/SHA256SUMS").read_text().splitlines()]
    assert {name: digest for digest, name in sums} == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()
    }
    assert (tree / "offline/choices").read_text() == (
        "accelerator=cpu\nextras=tracker\nlocks=build main torch-cpu tracker uv dev\n"
    )
    said, readme = capfd.readouterr().out, (tree / "README.md").read_text()
    assert f"Fetching {len(WHEELS)} packages, 0 MB.\n" in said
    assert readme.startswith("> Runs the code\n> of others.\n>\n> No network is needed: ") and readme.endswith(
        "\n\n# Title\n"
    )


def test_what_the_disk_has_no_room_for_is_not_begun(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"about 0\.0 GB are needed, and .*offline/wheels has 0\.0: make room"):
        collect(tree)
    assert not list((tree / "offline/wheels").iterdir())


@pytest.mark.parametrize("spoil", ["gone", "changed"])
def test_what_cannot_be_had_is_refused(spoil: str, tree: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = next((tree.parent / "index").glob("alpha-*"))
    path.unlink() if spoil == "gone" else wheel(path.parent, "alpha-1.0", "Summary: another\n")
    with pytest.raises(
        UserError, match=r"as it says above.*nothing was written\.$|has a hash that is in no lock"
    ) as said:
        collect(tree)
    assert "alpha" in capfd.readouterr().err + str(said.value)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"python": "3.2.1"}, "trained with Python 3.2 on .* bundle it there"),
        ({"system": {"os": "Plan 9", "machine": platform.machine()}}, "on Plan 9 .* bundle it there"),
        ({"packages": PACKAGES | {"torch": "9.0"}}, r"PyTorch 9\.0 of the run is in no lock"),
    ],
)
def test_another_computer_than_the_runs_is_refused(other: dict[str, Any], words: str, tree: Path) -> None:
    with pytest.raises(UserError, match=words):
        collect(tree, **other)
    (tree / "requirements/offline.sh").unlink()
    with pytest.raises(UserError, match="has no requirements/offline"):
        collect(tree)


def test_a_python_goes_in_as_uv_has_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv's own archive, of a made-up release, whose hash uv compares; one that cannot be had is refused."""
    packed = tree.parent / "cpython.tar.gz"
    with tarfile.open(packed, "w:gz") as written:
        # what uv looks for before it calls a Python installed
        library = f"python/lib/python{MINOR}/_sysconfigdata__linux_{platform.machine()}-linux-gnu.py"
        for name, content in ((f"python/bin/python{MINOR}", b"#!/bin/sh\n"), (library, SYSCONFIG)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            written.addfile(entry, io.BytesIO(content))
    minor = int(MINOR.partition(".")[2])
    machine = {"family": platform.machine(), "variant": None}
    about = {"name": "cpython", "arch": machine, "os": "linux", "libc": "gnu", "major": 3, "minor": minor, "patch": 99}
    about |= {"prerelease": "", "url": packed.as_uri(), "variant": None, "build": "20300101"}
    about["sha256"] = hashlib.sha256(packed.read_bytes()).hexdigest()
    listed = tree.parent / "pythons.json"
    listed.write_text(json.dumps({f"cpython-{MINOR}.99-linux-{platform.machine()}-gnu": about}))
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(listed))
    (remark,) = collect(tree, Wanted(wheels=True, python=True))
    assert "cannot be packed" in remark and "cpython.tar.gz" in remark
    (kept,) = (tree / "offline/python").iterdir()
    assert kept.read_bytes() == packed.read_bytes() and kept.name in (tree / "offline/SHA256SUMS").read_text()
    assert sorted(path.name for path in (tree / "offline").iterdir()) == ["SHA256SUMS", "choices", "python", "wheels"]
    with pytest.raises(UserError, match="goes with WHEELS=yes"):
        collect(tree, Wanted(python=True, image=True))
    packed.write_bytes(b"another")
    with pytest.raises(UserError, match=r"uv's Python .* could not be fetched, .* keep the image instead"):
        offline._fetch_python(MINOR, tree.parent / "python")


def test_a_bundle_is_made_of_a_bundle(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this project came out of one, its packages are taken, without an index."""
    root = tree.parent / "a bundle"
    (root / "offline").mkdir(parents=True)
    (tree.parent / "index").rename(root / "offline/wheels")
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(offline, "project", lambda: SimpleNamespace(root=root, adopted=False))
    assert collect(tree) == []
    assert len(list((tree / "offline/wheels").iterdir())) == len(WHEELS)


def test_nothing_is_left_of_what_failed(
    trained: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a zip, nor a part of several, nor what was fetched for it."""

    def fetched(record: Any, tree: Path, wanted: Any) -> list[str]:
        (tree / "offline/wheels").mkdir(parents=True)
        (tree / "offline/wheels/large.whl").write_bytes(os.urandom(3_500_000))
        return ["fetched"]

    def bundle(most: float) -> Any:
        return bundles.bundle(trained, folder=tmp_path / "dist", root=workspace, wanted=Wanted(wheels=True), most=most)

    monkeypatch.setattr(offline, "collect", fetched)
    with pytest.raises(UserError, match=r"offline/wheels/large.whl has 0\.004 GB, more than a part of 0\.003 GB"):
        bundle(0.003)
    path, number, remarks = bundle(0.004)
    first, last = archive.parts_of(path)
    assert remarks[-1] == "fetched" and sorted((tmp_path / "dist").iterdir()) == [first, last]
    assert all(part.stat().st_size <= 4_000_000 for part in (first, last))
    names = [zipfile.ZipFile(part).namelist() for part in (first, last)]
    assert len(names[0] + names[1]) == number and names[1][-1].endswith("offline/wheels/large.whl")
    assert any(name.endswith("/ro-crate-metadata.json") for name in names[0])
    written = archive.write_zip

    def fails(part: Path, *rest: Any) -> None:
        if part == last:
            raise UserError("the disk is full")
        written(part, *rest)

    first.unlink()
    last.unlink()
    monkeypatch.setattr(bundles, "write_zip", fails)
    with pytest.raises(UserError, match="the disk is full"):
        bundle(0.004)
    assert not list((tmp_path / "dist").iterdir()) and not (workspace / ".cache/bundle").exists()


def test_uv_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match="then make setup INSTALLER=uv"):
        offline._uv()


def test_a_python_alone_is_not_passed_over_in_silence() -> None:
    assert offline.Wanted(python=True) and not offline.Wanted()
