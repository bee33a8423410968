"""What the doctor finds, and what it does not: attacks on what is installed, computers, runs, its command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from .attack import Attack
from .attacks_installed import CASES, expect
from .fake_installation import ATTENTION, OK, PROBLEM, Fake, doctor, packages
from .project import ROOT, UserError, command, module

of_run, project, records = (module(f"samebits.{name}") for name in ("doctor.run", "engine.project", "engine.record"))


@pytest.mark.parametrize("attack", CASES, ids=str)
def test_what_is_installed(attack: Attack, tmp_path: Path) -> None:
    attack.check(tmp_path)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("an edited RECORD", "notes"),
        ("a lock with another hash", "notes"),
        ("a changed module", "_digest"),
        ("an added module", "_code"),
        ("planted bytecode", "is_foreign"),
        ("a package in the way", "PathFinder"),
    ],
)
def test_control(name: str, without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else finds it where a mechanism is taken away."""
    if without == "notes":  # as a setup that takes for checked what is there
        monkeypatch.setattr(packages.Environment, "notes", lambda self: Fake.note(fake_of(self)) or read(self))
    elif without == "_digest":
        monkeypatch.setattr(packages, "own_packages", lambda: [])
    else:
        instead: Any = SimpleNamespace(find_spec=lambda name: None) if without == "PathFinder" else lambda *_: ()
        monkeypatch.setattr(packages, without, instead)
    (attack,) = [attack for attack in CASES if attack.name == name]
    with pytest.raises(AssertionError):
        attack.check(tmp_path)


def read(environment: Any) -> str:
    return (environment.prefix / ".installed").read_text().partition("\n")[2]


def fake_of(environment: Any) -> Any:
    (site,) = environment.prefix.glob("lib/*/site-packages")
    return SimpleNamespace(root=environment.root, prefix=environment.prefix, site=site)


# --- the computer


def with_flags(flags: str) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def change(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        path = folder / "cpuinfo"
        path.write_text(f"model name\t: A processor\nflags\t\t: {flags}\n")
        monkeypatch.setattr(doctor, "CPUINFO", path)
        monkeypatch.setattr(doctor, "supported", lambda _: "avx2" in flags)
        monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")

    return change


def with_disk(free: int, of: str = "") -> Callable[[pytest.MonkeyPatch, Path], None]:
    def change(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        usage = shutil.disk_usage(folder)._replace(free=10**12, total=10**12)
        little = usage._replace(free=free, total=max(free, 2**26))
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: little if of in str(path) else usage)

    return change


@pytest.mark.parametrize(
    ("change", "mark", "word"),
    [
        (with_flags("sse2 avx avx2 avx512f"), OK, "x86-64-v4"),
        (with_flags("sse2 avx avx2"), OK, "x86-64-v3"),
        (with_flags("sse2 avx"), PROBLEM, "without AVX2"),
        (lambda patch, _: patch.setattr(doctor.platform, "machine", lambda: "aarch64"), ATTENTION, "only this kind"),
        (with_disk(5 * 10**8), ATTENTION, "0.5 GB free"),
        (with_disk(10**7), PROBLEM, "0.0 GB free"),
        (with_disk(2**26, "/dev/shm"), ATTENTION, "for processes that load data"),
    ],
)
def test_a_computer(
    change: Callable[..., None], mark: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_disk(10**12)(monkeypatch, tmp_path)
    change(monkeypatch, tmp_path)
    found = list(doctor._computer(project.project()))
    assert [each for each in found if each.mark == mark and word in each.found], found
    assert mark == OK or {each.mark for each in found} <= {mark, OK, ATTENTION}


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2", True),
        ("LD_PRELOAD", "/tmp/evil.so", True),
        ("PYTHONPATH", "/somewhere:https://user:hunter22@host/x", True),
        ("PYTHONPATH", str(ROOT / "src"), False),  # as in the container
        ("OMP_NUM_THREADS", "8", False),  # which `determinism` pins
        ("HF_TOKEN", "hf_" + "a" * 34, False),
    ],
)
def test_variables(name: str, value: str, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("PYTHONPATH", *module("samebits.engine.environment").VARIABLES):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, value)
    found = list(doctor._variables(project.project()))
    assert [each.what for each in found if each.mark != OK] == ([name] if named else []), found
    assert not any("hunter22" in str(doctor.redact(each.found)) or "hf_" in each.found for each in found)


@pytest.mark.parametrize(
    ("state", "mark", "word"),
    [
        ("whole", OK, "at commit"),
        ("shallow", ATTENTION, "shallow"),
        ("empty", ATTENTION, "no commit"),
        ("", ATTENTION, "none"),
    ],
)
def test_git(state: str, mark: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "here"
    folder.mkdir()

    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)

    if state:
        git("init", "-q")
    if state in ("whole", "shallow"):
        for _ in range(2):
            git("commit", "-q", "--allow-empty", "-m", "x")
    if state == "shallow":
        subprocess.run(["git", "clone", "-q", "--depth=1", folder.as_uri(), tmp_path / "clone"], check=True)
        folder = tmp_path / "clone"
    (check,) = doctor._git(replace(project.project(), root=folder))
    assert check.mark == mark and word in check.found, check
    assert bool(check.mend) == (mark != OK)


def test_a_remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers, one that is refused, and one that never does."""
    share = module("samebits.share")

    class Answers:
        def __enter__(self) -> tuple[None, str]:
            return None, "s3://bucket"

        def __exit__(self, *_: object) -> None:
            pass

    def refuses() -> Answers:
        raise UserError("s3://bucket: no such bucket.")

    def hangs() -> Answers:
        import time

        time.sleep(3)
        return Answers()

    monkeypatch.setattr(doctor, "SECONDS", 0.2)
    for opened, mark, word in ((Answers, OK, "answers"), (refuses, ATTENTION, "no such"), (hangs, ATTENTION, "within")):
        monkeypatch.setattr(share, "open_repository", opened)
        (check,) = doctor._remote()
        assert check.mark == mark and word in check.found, check


# --- a run


def of_trained(trained: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Any]:
    """Check a run, on a computer whose environment differs by changes of its parts."""
    described = of_run.describe_environment

    def describe(loaded: Any) -> dict[str, Any]:
        found = described(loaded)
        return found | {
            name: found[name] | each if isinstance(each, dict) and found[name] else each
            for name, each in changes.items()
        }

    monkeypatch.setattr(of_run, "describe_environment", describe)
    here = replace(project.project(), root=workspace)
    found = list(of_run.check_run(here, trained, records.read_finished(trained)))
    return [each for each in found if each.what != "code"]  # it was trained without a snapshot


def test_a_run_where_it_was_trained(trained: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(of_trained(trained, workspace, monkeypatch), OK)


@pytest.mark.parametrize(
    ("changes", "mark", "words"),
    [
        ({"packages": {"numpy": "1.0"}}, PROBLEM, ("packages.numpy", "here 1.0")),
        ({"threads": {"operations": 2}}, PROBLEM, ("threads.operations", "recorded 1, here 2")),
        ({"flags": {"default dtype": "torch.float64"}}, PROBLEM, ("flags.default dtype",)),
        ({"variables": {"GLIBC_TUNABLES": "x"}}, PROBLEM, ("variables.GLIBC_TUNABLES",)),
        ({"gpu": {"model": "H100", "driver": "1"}}, PROBLEM, ("gpu",)),
        ({"processor": {"model": "another"}}, ATTENTION, ("processor.model", "here another")),
        ({"python": "3.11.0"}, ATTENTION, ("python", "here 3.11.0")),
        ({"system": {"os": "another", "container": "docker"}, "processor": {"cores": 99}}, OK, ()),
    ],
)
def test_a_run_elsewhere(
    changes: dict[str, Any], mark: str, words: Any, trained: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_trained(trained, workspace, monkeypatch, **changes)
    worst = {PROBLEM, ATTENTION, OK} & {each.mark for each in found}
    assert (PROBLEM in worst, ATTENTION in worst) == (mark == PROBLEM, mark == ATTENTION), found
    assert mark == OK or [each for each in found if all(word in f"{each.what}: {each.found}" for word in words)], found


def test_a_package_of_the_same_version_and_other_content(
    trained: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of numpy's files has been edited, as has a file; the record knows another."""
    listed = of_run.Package.listed
    monkeypatch.setattr(
        of_run.Package,
        "listed",
        lambda self: listed(self) | ({"numpy/__init__.py": "x"} if "numpy/__init__.py" in self.files else {}),
    )
    found = of_trained(trained, workspace, monkeypatch)
    assert [each.what for each in found if each.mark == PROBLEM] == ["loaded.numpy/__init__.py"], found


def test_data_that_were_changed(
    trained: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(workspace, tmp_path / "copy"))
    found = next((copy / "data/processed").rglob("*.np[yz]"))
    found.write_bytes(found.read_bytes() + b"x")
    expect(of_trained(trained, copy, monkeypatch), PROBLEM, "data: not those of the run", found.name)


def test_code_that_is_lost(trained: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without a state of its code, and the code here is another one."""
    record = records.read_finished(trained)
    record["source"] = {"commit": "0" * 40}
    record["inputs"]["code"] = {name: "0" * 64 for name in record["inputs"]["code"]}
    (check,) = of_run._code(trained, record, "make reproduce")
    assert check.mark == PROBLEM and "the code here is another one" in check.found, check


# --- the command


def test_the_command(tmp_path: Path) -> None:
    """In an adopted project, which has no locks, no Makefile and no DVC; and what is no run."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.samebits]\npackage = "x"\ndata = ["data"]\n')
    done = command("doctor", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)
    assert done.returncode == (1 if said["problems"] else 0), done.stderr
    assert {each["section"] for each in said["checks"]} >= {"Python", "packages", "this computer", "GPU", "Git"}
    assert said["problems"] == sum(each["mark"] == PROBLEM for each in said["checks"])
    assert "DVC" not in done.stdout and not re.search("make (?!room)", done.stdout), done.stdout
    lost = command("doctor", str(tmp_path / "nowhere"))
    assert lost.returncode == 2 and lost.stderr.count("error: ") == 1 and "Traceback" not in lost.stderr, lost.stderr
