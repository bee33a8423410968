"""Verdicts beside a run: which are printed as facts, which stop a report or a bundle, and who has signed them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .project import UserError, module

files, records = module("samebits.verify.verdict_files"), module("samebits.engine.record")
verdicts, comparison = module("samebits.verify.verdict"), module("samebits.verify.comparison")
runs, provenance_diff = module("samebits.report.runs"), module("samebits.verify.provenance_diff")
TODAY = {"when": "2026-11-27T08:00:00Z", "machine": {"processor": "a"}, "code": "here", "fresh_environment": False}


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "models" / trained.name, ignore=shutil.ignore_patterns("verdicts")))


def write(run: Path, kind: str = "IDENTICAL", name: str = "1", **more: Any) -> Path:
    record, inputs = records.read_record(run), more.pop("inputs", [])
    found = verdicts.Verdict(files.Kind[kind], record["run"], causes=["a cause"], inputs=inputs)
    found.details = TODAY | {"record": record["sha256"], "by": None} | more
    return Path(files.write_verdict(run, name, found.as_json()))


def change(**parts: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | parts))

    return edit


def without(part: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        content = json.loads(path.read_text())
        del content[part]
        path.write_text(json.dumps(content))

    return edit


def sealed_anew(**parts: Any) -> Callable[[Path], None]:
    return lambda path: path.write_text(json.dumps(files.seal(json.loads(path.read_text()) | parts)))  # type: ignore[return-value]


EDITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "the kind": (change(verdict="ENVIRONMENT"), "was edited"),
    "who": (change(by="A famous person"), "was edited"),
    "when": (change(when="2020-01-01T00:00:00Z"), "was edited"),
    "the machine": (change(machine={"processor": "another"}), "was edited"),
    "a list within": (change(causes=["another cause"]), "was edited"),
    "more than there was": (change(note="checked by hand"), "was edited"),
    "no seal": (without("sha256"), "is not sealed"),
    "no record": (without("record"), "was edited"),
    "written by hand": (lambda path: path.write_text('{"verdict": "IDENTICAL"}') and None, "is not sealed"),
    "no JSON": (lambda path: path.write_text("IDENTICAL") and None, "cannot be read"),
    "no object": (lambda path: path.write_text('["IDENTICAL"]') and None, "cannot be read"),
    "of another run, its record's hash exchanged": (sealed_anew(run="cnn-seed=1-01234567"), "was edited"),
    "another kind of verdict, sealed": (sealed_anew(verdict="PERFECT"), "was edited"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_verdict_is_no_fact(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, record = write(run), records.read_record(run)
    (found,) = files.verdicts_on(run, record)
    assert found["verdict"] == "IDENTICAL" and found["signature"] == "unsigned"
    edit, words = EDITS[name]
    edit(path)
    read, wrong = files.read_verdicts(run, record)
    assert read == [] and len(wrong) == 1 and words in wrong[0] and "verdicts/1.json" in wrong[0]
    assert files.files_of(run, record) == []
    assert "none yet" in dict(comparison.describe(run, record))["verdicts"]
    assert f"Not counted: {wrong[0]}" in verdicts._section(run, run.parents[1])
    assert runs.FinishedRun(run, record).verdicts == []
    runs.read_runs(run.parent, [])
    assert wrong[0] in capsys.readouterr().err


def test_a_verdict_of_today_is_read_again_whatever_its_layout(run: Path) -> None:
    path, record = write(run, "ENVIRONMENT", by="T. Ester"), records.read_record(run)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    assert [each["by"] for each in files.verdicts_on(run, record)] == ["T. Ester"]
    assert "ENVIRONMENT (2026-11-27, unsigned)" in dict(comparison.describe(run, record))["verdicts"]
    provenance_diff.require_unedited(run)


def test_a_verdict_on_another_record_says_nothing_of_this_one(run: Path) -> None:
    """Copied from another run, or about a record of the same name that stood here before: neither is printed."""
    path = write(run, "TAMPERED")
    record = records.read_record(run)
    records.write_record(run, record | {"observed": record["observed"] | {"wall_seconds": 1.0}})
    again = records.read_record(run)
    assert again["run"] == record["run"] and files.read_verdicts(run, again) == ([], [])
    provenance_diff.require_unedited(run)
    sealed_anew(record=again["sha256"])(path)  # whoever knows the code can make it one on this record
    assert files.tampered(run, again)


def test_a_tampered_run_is_neither_reported_nor_bundled(run: Path, workspace: Path, tmp_path: Path) -> None:
    write(run, "IDENTICAL", "0", when="2026-11-26T08:00:00Z")
    path = write(run, "TAMPERED")
    for refused in (
        lambda: provenance_diff.require_unedited(run),
        lambda: runs.read_runs(run.parent, []),
        lambda: runs.read_run(run),
        lambda: module("samebits.bundle.bundle").bundle(run, folder=tmp_path, root=workspace),
    ):
        with pytest.raises(UserError, match=r"verdicts/1\.json says that it is TAMPERED: a cause") as error:
            refused()
        assert "\n" not in str(error.value)
    write(run, "IDENTICAL", "2", when="2026-11-28T08:00:00Z", inputs=[("code a.py", "1", "2")])
    with pytest.raises(UserError, match="TAMPERED"):  # code that was changed until it gave what the record says
        provenance_diff.require_unedited(run)
    write(run, "IDENTICAL", "3", when="2026-11-28T09:00:00Z")  # the files were restored
    provenance_diff.require_unedited(run)
    path.write_text(path.read_text().replace("TAMPERED", "IDENTICAL"))
    assert "was edited" in files.read_verdicts(run, records.read_record(run))[1][0]


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an SSH key, and a Git whose commits it signs."""
    if not shutil.which("ssh-keygen"):
        pytest.skip("needs ssh-keygen")
    path = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "t", "-f", str(path)], check=True)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name, value in (("gpg.format", "ssh"), ("user.signingkey", f"{path}.pub")):
        subprocess.run(["git", "config", "--global", name, value], check=True)
    return path


def test_a_signature_names_a_key_or_whom_it_belongs_to(
    run: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, record = write(run), records.read_record(run)
    files.require_key()
    files.sign(path)
    assert [each.name for each in files.files_of(run, record)] == ["1.json", "1.json.sig"]
    (found,) = files.verdicts_on(run, record)
    printed = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True).stdout.split()[1]
    assert found["signature"] == f"signed by the key {printed}, which names nobody here"
    assert f", {found['signature']}: **IDENTICAL**" in verdicts._section(run, run.parents[1])

    allowed = tmp_path / "allowed"
    allowed.write_text(f'author@example.org namespaces="samebits" {Path(f"{key}.pub").read_text()}')
    subprocess.run(["git", "config", "--global", "gpg.ssh.allowedSignersFile", str(allowed)], check=True)
    assert files.verdicts_on(run, record)[0]["signature"] == "signed by author@example.org"
    allowed.write_text(f'author@example.org namespaces="git" {Path(f"{key}.pub").read_text()}')
    assert files.verdicts_on(run, record)[0]["signature"].startswith("signed by the key SHA256:")

    # a folder of a stranger's may come with Git's settings for it: they neither name a signer nor a program that is run
    for name, value in (("gpg.ssh.allowedSignersFile", allowed), ("gpg.ssh.program", tmp_path / "evil")):
        subprocess.run(["git", "init", "--quiet", str(run)], check=True)
        subprocess.run(["git", "config", name, str(value)], cwd=run, check=True)
    subprocess.run(["git", "config", "--global", "--unset", "gpg.ssh.allowedSignersFile"], check=True)
    allowed.write_text(f'author@example.org namespaces="samebits" {Path(f"{key}.pub").read_text()}')
    (tmp_path / "evil").write_text(f"#!/bin/sh\ntouch '{tmp_path}/was-run'\n")
    (tmp_path / "evil").chmod(0o755)
    monkeypatch.chdir(run)
    assert files.verdicts_on(run, record)[0]["signature"].startswith("signed by the key SHA256:")
    assert not (tmp_path / "was-run").exists()

    sealed_anew(by="Another")(path)  # with a new seal, which anybody can make, under the signature of before
    read, wrong = files.read_verdicts(run, record)
    assert read == [] and "has a signature that is not of this content" in wrong[0]


def test_a_signature_of_another_kind_is_none(run: Path, key: Path) -> None:
    path, record = write(run), records.read_record(run)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(key), str(path)], check=True)
    assert files.read_verdicts(run, record)[0] == []


def test_who_cannot_sign_is_told_before_anything_is_trained(run: Path, key: Path, tmp_path: Path) -> None:
    verification = module("samebits.verify.reproduce")
    subprocess.run(["git", "config", "--global", "user.signingkey", str(tmp_path / "nothing.pub")], check=True)
    with pytest.raises(UserError, match=r"nothing\.pub cannot sign \("):
        verification.verify(run, verification.Options(sign=True))
    subprocess.run(["git", "config", "--global", "--unset", "gpg.format"], check=True)
    with pytest.raises(UserError, match="Git has no SSH key to sign with"):
        verification.verify(run, verification.Options(sign=True))
    with pytest.raises(UserError, match="there is no verdict's file to be signed"):
        verification.verify(run, verification.Options(sign=True, probe=True))
    assert not (run / "verdicts").exists()
