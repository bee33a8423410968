"""Free text is free; what cannot work is refused in one sentence, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import local_extensions
from answer_rules import CHOICES, TAKEN, locked_packages, refusal

from .baking import SOURCE, TEMPLATE, bake, files_of
from .parsing import parse, parse_json, parse_toml, parse_yaml

TEXTS = {
    "quotes": """It's "the" `best` 'of' \"""all\"""",
    "backslashes": r"C:\new\table \d+ \u1234 \\",
    "punctuation": "a: b # c - d, [e] {f} & *g !h |i >j %k @l ~",
    "braces": "{{ cookiecutter.nothing }} {x} }}",
    "tags": "{% raw %}{# no comment #}",
    "evaluated": "{{ 7 * 7 }}",
    "emoji": "digits 🧪🔢 for 👩‍🔬",
    "chinese": "手写数字识别",
    "right to left": "מחקר ולמידה",
    "html": "<script>alert(1)</script> </title> &amp;",
    "yaml words": "yes",
    "dollars": "$HOME ${HOME} $(id) `id` $$",
    "heading": "# --- 1. not a heading",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_free_text_arrives_as_it_was_typed(text: str, tmp_path: Path) -> None:
    answers = {"project_name": text, "description": text, "author_name": text}
    baked = bake(tmp_path / "out", {**answers, "project_slug": "my-work", "license": "MIT"})
    project = baked.project
    for path in files_of(project):
        parse(path)
    pyproject = parse_toml(project / "pyproject.toml")["project"]
    citation = parse_yaml(project / "CITATION.cff")
    assert pyproject["description"] == citation["abstract"] == text
    assert pyproject["authors"] == [{"name": text, "email": "you@example.org"}]
    assert citation["title"] == parse_json(project / ".devcontainer/devcontainer.json")["name"] == text
    assert text in (project / "LICENSE").read_text(encoding="utf-8")
    author = subprocess.run(["git", "log", "--format=%an"], cwd=project, capture_output=True, text=True).stdout
    assert author.strip() and set(author.strip()) <= set(text)  # Git drops some punctuation at the ends


REFUSED = [
    ("package_name", "class"),
    ("package_name", "match"),
    ("package_name", "json"),
    ("package_name", "torch"),
    ("package_name", "sklearn"),
    ("package_name", "data"),
    ("package_name", "test"),
    ("package_name", "3d"),
    ("package_name", ""),
    ("package_name", "größe"),
    ("package_name", "my-package"),
    ("package_name", "a.b"),
    ("package_name", "Upper"),
    ("project_slug", "my work"),
    ("project_slug", "a/b"),
    ("project_slug", "../up"),
    ("project_slug", "a\\b"),
    ("project_slug", ".."),
    ("project_slug", ""),
    ("project_slug", "-rf"),
    ("python_version", "2.7"),
    ("python_version", "3.11.7"),
    ("project_name", "  "),
    ("author_name", ""),
    ("author_email", "nobody"),
    ("github_owner", "a b"),
    ("dvc_remote", "relative/path"),
    ("dvc_remote", 's3://bucket/"x"'),
    ("dvc_remote", "https://me:pass@word/1@host/x"),
    ("dvc_remote", "azure://container/x?sig=abc"),
    ("description", "two\nlines"),
    ("description", "bell\a"),
]


@pytest.mark.parametrize(("field", "answer"), REFUSED)
def test_what_cannot_work_is_refused_in_one_sentence(field: str, answer: str, tmp_path: Path) -> None:
    baked = bake(tmp_path / "out", {field: answer})
    assert baked.status != 0
    assert baked.output.count("\n") == 1 and baked.output.startswith(field), baked.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home-of-out", "out"]  # `../up` is not made either
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_without_letters_is_refused(tmp_path: Path) -> None:
    baked = bake(tmp_path / "out", {"project_name": "🧪"})
    assert baked.status != 0 and baked.output.startswith("project_slug") and baked.output.count("\n") == 1


def test_the_defaults_are_not_refused(tmp_path: Path) -> None:
    answers = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    answers |= {"project_slug": "handwritten-digits", "package_name": "handwritten_digits", "python_version": "3.13"}
    assert refusal({name: answer for name, answer in answers.items() if isinstance(answer, str)}) is None


@pytest.mark.parametrize(
    ("running", "proposed"), [((3, 12), "3.12"), ((3, 14), "3.14"), ((3, 10), "3.13"), ((3, 15), "3.13")]
)
def test_the_running_python_is_proposed(
    running: tuple[int, int], proposed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (*running, 1))
    assert local_extensions.this_python() == proposed


def test_the_python_version_is_pinned(tmp_path: Path) -> None:
    here = "{}.{}".format(*sys.version_info)
    for answers, version in (({}, here), ({"python_version": "3.14"}, "3.14")):
        project = bake(tmp_path / version, answers).project
        assert (project / ".python-version").read_text() == f"{version}\n"
        for name in ("Dockerfile", ".binder/Dockerfile", "apptainer.def", "compose.yaml"):
            assert f"python:{version}-slim-bookworm" in (project / name).read_text()
        assert (
            parse_toml(project / "pyproject.toml")["project"]["requires-python"] == f">={CHOICES['python_version'][0]}"
        )


def test_the_prompts_explain_every_question(tmp_path: Path) -> None:
    cookiecutter = json.loads((TEMPLATE / "cookiecutter.json").read_text())
    assert set(cookiecutter["__prompts__"]) == {name for name in cookiecutter if not name.startswith("_")}
    for field, choices in CHOICES.items():  # typed, since cookiecutter's own menus cannot refuse in a sentence
        assert [choice for choice in choices if choice not in cookiecutter["__prompts__"][field]] == []


def test_braces_can_be_typed_at_the_prompt(tmp_path: Path) -> None:
    typed = ["Braces", "", "", "{{ x }} and {% y %}", *[""] * 7]
    project = bake(tmp_path / "out", prompts="\n".join(typed) + "\n").project
    assert project.name == "braces"
    assert parse_toml(project / "pyproject.toml")["project"]["description"] == typed[3]


def test_a_generated_project_is_not_overwritten(tmp_path: Path) -> None:
    project = bake(tmp_path / "out").project
    (project / "mine.txt").write_text("keep")
    again = bake(tmp_path / "out")
    assert again.status != 0 and "already exists" in again.output
    assert (project / "mine.txt").read_text() == "keep"


def test_replay_gives_the_same_project_and_checks_its_answers(tmp_path: Path) -> None:
    first = bake(tmp_path / "out", {"project_name": "Sea Ice"}).project
    (tmp_path / "first").mkdir()
    kept = shutil.move(str(first), tmp_path / "first")
    again = bake(tmp_path / "out", None, "--replay").project
    same = [path.relative_to(again) for path in files_of(again)]
    assert same == [path.relative_to(kept) for path in files_of(Path(kept))]
    assert all((again / path).read_bytes() == (Path(kept) / path).read_bytes() for path in same)

    shutil.rmtree(again)
    (replay,) = (tmp_path / "home-of-out/.cookiecutter_replay").iterdir()
    answers = json.loads(replay.read_text())
    answers["cookiecutter"]["package_name"] = "torch"
    replay.write_text(json.dumps(answers))
    refused = bake(tmp_path / "out", None, "--replay")
    assert refused.status != 0 and "package_name: 'torch'" in refused.output
    assert list((tmp_path / "out").iterdir()) == []


def test_from_a_git_url(tmp_path: Path) -> None:
    bare = tmp_path / "repro-template.git"
    work = tmp_path / "work"
    shutil.copytree(TEMPLATE, work, ignore=shutil.ignore_patterns(".git", ".venv", "demo", "*_cache", "__pycache__"))
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "template"]):
        subprocess.run(["git", *words], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    project = bake(tmp_path / "out", template=f"git+file://{bare}").project
    assert (project / "Makefile").exists()


def test_without_git_there_is_a_project_and_one_clear_line(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "python").symlink_to(sys.executable)
    baked = bake(tmp_path / "out", environment={"PATH": str(binaries)})
    assert "git was not found" in baked.output and "git init" in baked.output
    assert not (baked.project / ".git").exists()
    assert "no_scm = true" in (baked.project / ".dvc/config").read_text()


def test_a_failing_hook_leaves_nothing(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "git").write_text("#!/bin/sh\necho the disk is full >&2\nexit 1\n")
    (binaries / "git").chmod(0o755)
    baked = bake(tmp_path / "out", environment={"PATH": f"{binaries}:/usr/bin:/bin"})
    assert baked.status != 0 and "git init failed in the new project: the disk is full" in baked.output
    assert list((tmp_path / "out").iterdir()) == []


def test_every_locked_package_is_taken() -> None:
    lock = (SOURCE / "requirements/main.txt").read_text().splitlines()
    names = {line.split("==")[0] for line in lock if "==" in line}
    assert {name.replace("-", "_") for name in names} == locked_packages()
    assert not TAKEN & {"my_experiment", "handwritten_digits"}
