"""No password and no key leaves this computer, whatever holds it; and what is none is left alone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .attack import Attack, chosen
from .attacks_secrets import CASES, FILES, PLANTED, SLOW, git, objects, repository, secrets, snapshot
from .project import ROOT, UserError, module

pytest.importorskip("dvc")
FEW = [case for number, case in enumerate(CASES) if case.kind not in SLOW or number % 8 == 0]


@pytest.mark.parametrize("case", chosen(FEW, CASES), ids=str)
def test_a_secret_stays_here(case: Attack, tmp_path: Path) -> None:
    case.check(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_private_by_its_name(name: str) -> None:
    assert secrets.is_private(name)


def test_no_file_of_the_library_or_its_projects_is_taken_for_private() -> None:
    repository = ROOT.parents[2]
    for folder in ("library/src", "library/tests/project", "{{cookiecutter.project_slug}}"):
        names = subprocess.run(
            ["git", "ls-files", "-z", folder], cwd=repository, check=True, capture_output=True, text=True
        )
        for name in filter(None, names.stdout.split("\0")):
            content = (repository / name).read_bytes()
            assert secrets.why_private(name.removeprefix(folder).lstrip("/"), content) == "", name


def test_the_attempts_can_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the mechanism, each kind of attempt finds its secret."""
    kinds: dict[str, Attack] = {}
    for case in CASES:
        if not case.kind.startswith(("honest", "run")):
            kinds.setdefault(case.kind, case)
    monkeypatch.setattr(snapshot, "why_private", lambda *_: "")
    monkeypatch.setattr(secrets, "redact_text", lambda text, name="": text)
    monkeypatch.setattr(secrets, "hide_logins", lambda text, **_: text)
    monkeypatch.setattr(secrets, "written_out", lambda *_: False)
    monkeypatch.setattr(module("samebits.engine.inputs"), "keep_references", lambda settings: settings)
    for number, case in enumerate(kinds.values()):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(Exception):  # noqa: B017 (an AssertionError, or what a missing variable gives)
            case.check(tmp_path / str(number))


def test_states_of_the_code_of_before_are_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = repository(tmp_path)
    assert snapshot.private_states(root) == []
    (root / "new.py").write_text("x = 1\n")
    snapshot.take_snapshot(root, "clean", tmp_path)
    assert snapshot.private_states(root) == []
    (root / ".env.local").write_text(PLANTED)
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "why_private", lambda *_: "")
        snapshot.take_snapshot(root, "old", tmp_path)
    assert PLANTED.encode() in objects(root)
    assert sorted(snapshot.private_states(root)) == [("old", ".env.local")]
    git(root, "update-ref", "-d", "refs/runs/old")
    assert snapshot.private_states(root) == []


def test_a_run_of_before_is_neither_shared_nor_bundled(trained: Path, tmp_path: Path) -> None:
    refuse = module("samebits.verify.provenance_diff").require_no_secret
    refuse(trained)
    run = Path(shutil.copytree(trained, tmp_path / trained.name))
    with (run / "config.yaml").open("a") as file:
        file.write(f"api_key: {PLANTED}\n")
    with pytest.raises(UserError, match=r"config.yaml has a password or a key in it: take it out"):
        refuse(run)


def test_no_error_prints_the_password_of_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        module("samebits.engine.command_line").fail(f"https://me:{PLANTED}@example.org/x cannot be fetched.")
    assert capsys.readouterr().err == "error: https://***@example.org/x cannot be fetched.\n"
