"""Bundles: the same bytes, nothing private, refusals; whether a stranger can use one is the template's to test."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .project import NAME, ROOT, UserError, command, module

metadata, archive = module("samebits.report.documents"), module("samebits.bundle.bundle")
bundle = archive.bundle
ENDED = "2026-01-31T12:00:02Z"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def names(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as zipped:
        return {name.split("/", 1)[1] for name in zipped.namelist()}


def entities(path: Path) -> dict[str, dict[str, Any]]:
    with zipfile.ZipFile(path) as zipped:
        (name,) = (name for name in zipped.namelist() if name.endswith("/ro-crate-metadata.json"))
        return {entity["@id"]: entity for entity in json.loads(zipped.read(name))["@graph"]}


def test_a_bundle_is_the_whole_project_with_one_run(run: Path, workspace: Path, tmp_path: Path) -> None:
    path, number, remarks = bundle(run, folder=tmp_path / "one", root=workspace)
    again = bundle(run, folder=tmp_path / "other", root=workspace)[0]
    assert path.read_bytes() == again.read_bytes() and path.name == f"{path.stem}.zip" and run.name in path.name
    found = names(path)
    record = json.loads((run / "record.json").read_text())
    outside = [name for name in record["inputs"]["outside"] if name.startswith(".../")]  # of these tests
    assert remarks[:-1] == [
        f"{name} was loaded from outside of the project, so it is not in the bundle" for name in outside
    ]
    assert "not as released" in remarks[-1]  # the library is that of this checkout
    assert len(found) == number and [each.name for each in (tmp_path / "one").iterdir()] == [path.name]
    place = f"models/{run.name}"
    assert {"Makefile", "dvc.yaml", ".dvc/config", "data/raw/digits.csv.gz", "data/processed/dataset.json"} <= found
    assert {f"{place}/{name}" for name in ("record.json", "model.safetensors", "history.csv")} <= found
    assert not [name for name in found if "checkpoints/" in name or name.startswith((".git/", "models/main", ".env"))]

    described = entities(path)
    local = {name for name, entity in described.items() if entity["@type"] == "File"}
    assert {name.replace("%3D", "=") for name in local} <= found
    assert described["#training"]["endTime"].endswith("+00:00")
    assert len(described[f"{place}/record.json".replace("=", "%3D")]["sha256"]) == 64

    files = module("samebits.verify.verdict_files")
    parts = {"verdict": "IDENTICAL", "run": record["run"], "record": record["sha256"], "when": "2026-01-31T12:00:00Z"}
    parts |= {"meaning": "", "machine": {}, "code": "", "fresh_environment": False, "inputs": [], "environment": []}
    files.write_verdict(run, "1", json.dumps(files.seal(parts)))
    (run / "verdicts/2.json").write_text("{}")  # which nobody sealed
    more = bundle(run, folder=tmp_path / "other", root=workspace)[0]
    assert names(more) - found == {f"{place}/verdicts/1.json"} and more.read_bytes() != path.read_bytes()


def test_without_data_there_are_addresses(run: Path, workspace: Path, tmp_path: Path) -> None:
    path, *_ = bundle(run, with_data=False, folder=tmp_path, root=workspace)
    assert not [name for name in names(path) if name.startswith(("data/raw", "data/processed"))]
    data = entities(path)["#data/raw/digits.csv.gz"]
    assert data["contentUrl"].startswith("pkg://") and len(data["sha256"]) == 64
    assert data["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}


def test_what_is_not_the_recorded_run_is_refused(run: Path, workspace: Path, tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(UserError, match=words):
            bundle(run, folder=tmp_path / "dist", root=workspace)
        assert not (tmp_path / "dist").exists()

    labels = workspace / "data/processed/val_labels.npy"
    content = labels.read_bytes()
    labels.write_bytes(content[:-8] + bytes(8))
    refused(r"the data here are not those of .* \(data val_labels.npy: .*make data")
    assert bundle(run, with_data=False, folder=tmp_path / "apart", root=workspace)[0].exists()
    labels.write_bytes(content)
    weights = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").unlink()
    refused(r"model.safetensors is missing: fetch it \(make pull\)")
    (run / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    refused("was edited after it was trained .*the tensor")
    (run / "model.safetensors").write_bytes(weights)
    record = json.loads((run / "record.json").read_text())
    module("samebits.engine.record").write_record(
        run, record | {"observed": record["observed"] | {"status": "running"}}
    )
    refused("has not finished")


def test_other_code_than_the_recorded_is_refused(trained: Path, tmp_path: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    archive.write_project(record, trained, tmp_path / "known")
    record["inputs"]["code"][f"{NAME}/train.py"] = "0" * 64
    with pytest.raises(UserError, match=r"train.py|the code here is another one"):
        archive.write_project(record, trained, tmp_path / "unknown")


def test_nothing_private_goes_in(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((trained / "record.json").read_text())
    original = archive.provenance_diff.export_code
    extra = {"notes.md": "https://me:pw-1@example.org/x\n", ".env": "TOKEN=pw-2\n"}
    extra |= {".dvc/config.local": "password = pw-3\n", "configs/data/other.yaml": "uri: https://pw-4@example.org/x\n"}
    extra |= {".dvc/config": "['remote \"r\"']\n    url = https://me:pw-5@h/x\n    password = pw-6\n[core]\n"}

    def export(record: Any, run: Path, target: Path, instead: str) -> bool:
        original(record, run, target, instead)
        for name, text in extra.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(text)
        (target / "link").symlink_to("/etc/hostname")
        (target / "alias.md").symlink_to("notes.md")
        return True

    monkeypatch.setattr(archive.provenance_diff, "export_code", export)
    remarks = archive.write_project(record, trained, tmp_path / "tree")
    written = {path.name: path.read_text() for path in (tmp_path / "tree").rglob("*[!y]") if path.is_file()}
    assert [name for name, text in written.items() if "pw-" in text] == []
    assert written["notes.md"] == "https://***@example.org/x\n" == written["alias.md"] and "link" not in written
    assert "no_scm = true" in written["config"] and "https://***@h/x" in written["config"]
    text = "; ".join(remarks)
    assert all(part in text for part in ("link was left out", ".env was left out", "notes.md, the login", "other.yaml"))

    extra[f"src/{NAME}/train.py"] = (ROOT / f"src/{NAME}/train.py").read_text() + "# https://me:pw-7@example.org\n"
    changed = {
        **record["inputs"]["code"],
        f"{NAME}/train.py": module("samebits.engine.files").bytes_sha256(list(extra.values())[-1].encode()),
    }
    record["inputs"]["code"] = changed
    with pytest.raises(UserError, match=r"train\.py has an address with a password in it"):
        archive.write_project(record, trained, tmp_path / "other")


def test_the_library_goes_in_as_it_was_locked(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((trained / "record.json").read_text())
    record["source"].pop("commit", None)  # Git does not know the code, so that it is copied from here
    root = shutil.copytree(ROOT, tmp_path / "project", ignore=shutil.ignore_patterns(".cache"))
    wheel, lock = root / "vendor/samebits-1.0.0-py3-none-any.whl", root / "requirements/samebits.txt"
    for path, content in ((wheel, "a wheel"), (lock, f"./vendor/{wheel.name} --hash=sha256:00\n")):
        path.parent.mkdir()
        path.write_text(content)
    chosen = module("samebits.engine.project")._chosen
    monkeypatch.setattr(module("samebits.engine.project"), "_chosen", [*chosen, root])
    archive.write_project(record, trained, tmp_path / "tree")
    for path in (wheel, lock):
        assert (tmp_path / "tree" / path.relative_to(root)).read_bytes() == path.read_bytes()
    (root / f"src/{NAME}/models/network.py").write_text("")  # which the training imports
    with pytest.raises(UserError, match=r"the recorded code was kept nowhere .* bundle a run of the code here"):
        archive.write_project(record, trained, tmp_path / "other")
    with pytest.raises(UserError, match=rf"is not the recorded one \(code {NAME}/models/network.py\)"):
        archive._require_recorded(record, root)


def test_edits_of_the_library_go_in_with_its_source_alone(trained: Path, tmp_path: Path) -> None:
    record = json.loads((trained / "record.json").read_text())
    library = Path(module("samebits").__file__).parent
    record["inputs"]["library"] = {"run.py": module("samebits.engine.files").file_sha256(library / "run.py")}
    (remark,) = archive._edited_library(record, tmp_path)
    assert remark == "samebits/run.py was not as released when the run was trained, and is not in the bundle"
    (tmp_path / "src/samebits").mkdir(parents=True)
    shutil.copy(library / "run.py", tmp_path / "src/samebits")  # as `make eject` has it
    assert archive._edited_library(record, tmp_path) == []


def test_a_package_that_is_missing_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocrate", None)
    with pytest.raises(
        UserError,
        match=r"^this needs rocrate, not .* `make setup EXTRAS=dev`, .* `pip install 'samebits\[bundle\]'`\.$",
    ):
        bundle(run, folder=tmp_path / "dist")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("[core]\n    analytics = false\n", "[core]\n    no_scm = true\n    analytics = false\n"),
        ("[core]\n    no_scm = false\n", "[core]\n    no_scm = true\n"),
        ("", "[core]\n    no_scm = true\n"),
        (
            "['remote \"a\"']\n    url = ssh://me@h/x\n",
            "['remote \"a\"']\n    url = ssh://***@h/x\n[core]\n    no_scm = true\n",
        ),
    ],
)
def test_dvc_is_remarks_to_do_without_git(config: str, expected: str) -> None:
    assert archive.without_git(config) == expected
    assert archive.without_git(expected) == expected


def test_the_zip_follows_from_names_and_content_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two.sh"
    one.write_text("1")
    two.write_text("2")
    two.chmod(0o700)

    def written(files: dict[str, Path]) -> bytes:
        archive.write_zip(tmp_path / "x.zip", "top", files, ENDED)
        return (tmp_path / "x.zip").read_bytes()

    before = written({"b": two, "a": one})
    os.utime(one, (0, 0))
    two.chmod(0o755)
    assert written({"a": one, "b": two}) == before
    with zipfile.ZipFile(tmp_path / "x.zip") as zipped:
        listed = zipped.infolist()
    assert [(each.filename, each.date_time) for each in listed] == [
        (f"top/{name}", (2026, 1, 31, 12, 0, 2)) for name in "ab"
    ]
    assert [stat.S_IMODE(each.external_attr >> 16) for each in listed] == [0o644, 0o755]
    one.write_text("3")
    assert written({"a": one, "b": two}) != before
    with pytest.raises(FileNotFoundError):
        written({"a": one, "b": tmp_path / "gone"})
    assert not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://***@example.org/me/it.git", "https://example.org/me/it"),
        ("git@example.org:me/it.git", "https://example.org/me/it"),
        ("ssh://***@example.org:2222/me/it.git", "https://example.org/me/it"),
        ("/home/me/it.git", None),
        ("../it.git", None),
        (None, None),
    ],
)
def test_a_remote_becomes_an_address_to_look_at(remote: str | None, address: str | None) -> None:
    assert metadata.web_address(remote) == address


def test_authors_and_licence_come_from_the_projects_files(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "it"\nlicense = "LicenseRef-Proprietary"\n')
    (tmp_path / "CITATION.cff").write_text(
        "authors:\n  - family-names: Byron\n    given-names: Ada\n    affiliation: A\n"
    )
    found = metadata.read_project(tmp_path)
    assert found.authors == [metadata.Author("Ada Byron", affiliation="A")] and found.licence is None
    (tmp_path / "CITATION.cff").write_text("authors: []\n")
    with pytest.raises(UserError, match="names no author"):
        metadata.read_project(tmp_path)
    (tmp_path / "CITATION.cff").write_text("authors: [\n")
    with pytest.raises(UserError, match=r"CITATION.cff cannot be read"):
        metadata.read_project(tmp_path)


def test_the_command_answers_in_one_sentence() -> None:
    for argument in ("nowhere", "README.md"):
        done = command("bundle", argument)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
