"""Attacks by answers: what cannot work is refused, and what is accepted gives files that their programs can read.

There are answers that must be refused, answers that must be accepted, and 200 sets that hypothesis draws (half an hour
on two cores). Ten of the sets are set up and trained (`REAL`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from answer_rules import CHOICES, refusal

from .attack import Attack
from .baking import TEMPLATE, bake, files_of
from .parsing import parse, parse_toml, parse_yaml

CITATION, PYTHON = TEMPLATE / ".venv-validators/bin/cffconvert", TEMPLATE / "library/.venv/bin/python"
COPIED = (".py", ".txt", ".whl", ".html", ".ipynb")  # the answers are not in them
SETS, EVERY_REAL = 200, 20

Answers = dict[str, str]

LINE = "holds a line break, a control character or one that is none"


def each(field: str, part: str, *values: str, **others: str) -> list[tuple[Answers, str]]:
    """Pair answers to one question with a part of the sentence that each gets."""
    return [({field: value, **others}, part) for value in values]


REFUSED: list[tuple[Answers, str]] = [
    *each("project_slug", "project_slug: ", "abc-", "p--", "a-_b", "a___b", "_a", "a.b", "-", "é", "a\u200b"),
    *each("project_slug", "characters; the longest", "a" * 101, "a" * 240, "a" * 300, package_name="a"),
    *each("project_slug", "a device", "con", "NUL", "com1", "Prn", "LPT9", package_name="mine"),
    *each("package_name", "a device", "con", "aux", "com9", project_slug="mine"),
    *each("project_slug", "installs", "torch", "NumPy", "dvc_s3", "samebits", "scratch", "pip", package_name="mine"),
    *each("project_slug", "installs", "typing_extensions", "PyYAML", "botocore", package_name="mine"),
    *each("project_slug", "project_slug: ", "0123456789abcdef" * 4, package_name="mine"),
    *each("package_name", "of Python itself", "json", "antigravity", "case", "async", "lambda", "this"),
    *each("package_name", "that it uses", "tests", "ray", "s3fs", "sitecustomize", "conftest", "uv"),
    *each("package_name", "characters; the longest", "a" * 101),
    *each("project_slug", "package_name: ", "tests", "data", "src", "json", "2d"),
    *each("author_email", "author_email: ", "a,b@c]", "a@b@c", "a b@c", '"a"@b', "a@b.", "a..b@c", "@b", "a@", "<a@b>"),
    *each("author_email", "author_email: ", "a;b@c", "a@b,c", "é@b", "a@-b", "(a)@b"),
    *each("author_email", LINE, *(f"a@b{char}c" for char in "\n\r\x0b\x85\u2028")),
    *each("description", LINE, *(f"a{char}b" for char in "\ufffe\uffff\ufdd0\U0001fffe\x1b\x7f\x9b\t\u2029")),
    *each("author_name", "author_name: ", "...", "<>", "''", " , ", "\\"),
    *each("dvc_remote", "dvc_remote: ", "javascript://x", "s3://b/%(x)s", "file:///x", "/a/%(b)s", "s3://", "C:\\data"),
    *each("dvc_remote", "dvc_remote: ", "~/dvc", "../dvc", "ssh://a b", "ssh:///x", "S3://b", "x", "gdrive://a"),
    *each("dvc_remote", "dvc_remote: ", *(f"s3://b/{char}" for char in "'\"`#;{}\\ ")),
    *each("github_owner", "github_owner: ", "", "a//b", "a/../b", "/a", "a/", "a?b", "a b", "é", "-", "a#b"),
    *each("license", "license: ", "", "mit", "BSD", "GPL", "../LICENSE", "['MIT']"),
    *each("ci", "ci: ", "", "circle", "GitHub", "1"),
    *each("python_version", "python_version: ", "", "3.10", "3.15", "3", "latest"),
    *each("__checked", "package_name: ", "yes", package_name="torch"),  # the rules cannot be answered away
    *each("__year", LINE, "20\n26"),
]

ODD_SLUGS = ("a", "A", "a--b", "a__b", "Json", "tests", "no", "1e5", "0x1", "007")
AUTHOR = 'Anna-Łucja \\textbf{$O\'Neil$} "Jr." <a@b>, Müller & Co: #1 % [x] | - *'
TYPED: list[Answers] = [
    *({"project_slug": slug, "package_name": "mine"} for slug in ODD_SLUGS),
    {"project_slug": "null", "description": "{{cookiecutter.nothing}} {% endraw %}{{ 7 * 7 }}"},
    {"description": "{{cookiecutter.project_slug}}", "author_name": "{% endraw %}"},
    {"project_name": "Very " * 80 + "long", "author_email": "o'brien+x@müller.example"},
    {"author_name": AUTHOR, "author_email": "a@b"},
    {"author_name": "- key: value", "project_name": "? !!python/object: &a *b", "description": "\ufeff\u202ertl\u200b"},
    {"dvc_remote": "s3://bucket/a,b,c", "description": ""},
    {"dvc_remote": "https://example.org:8443/a%20b?c=d&e=$f"},
    {"dvc_remote": "/", "ci": "none"},
    {"dvc_remote": "/mnt/a, b/ü $HOME %20", "license": "Proprietary"},
    {"github_owner": "group/sub.group/sub_group", "ci": "gitlab"},
    {"__checked": "no"},
]

MARKS = "\"'\\{}[]#:;,&*!|>%@`$<>=-?~/\u00a0\u200b\u202e\ufeff\u0301🧪מ手"
SPECIALS = st.sampled_from([*MARKS, "{{", "}}", "{%", "%}", "---"])
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
TEXT = st.lists(SPECIALS | CHARACTERS | st.sampled_from("abcXYZ 019"), min_size=1, max_size=40).map("".join)
ATOM = st.from_regex(r"[a-z0-9!$&'*+/=?^_{|}~-]{1,8}", fullmatch=True)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
SLUG = st.from_regex(r"[A-Za-z0-9]{1,9}((__?|--?)[A-Za-z0-9]{1,9}){0,9}", fullmatch=True)
WORDS = ("yes", "no", "on", "off", "true", "null", "y", "1e3", "0b1", "12", "1_0", "nan", "Inf", "tests", "x", "json")
REST = st.from_regex(r"[A-Za-z0-9:@/,._~%&=$?!+*()\[\]|<>^-]{1,30}", fullmatch=True)
REMOTE = st.just("") | st.tuples(st.sampled_from(["ssh", "http", "https", "s3", "gs", "azure"]), REST).map("://".join)
FOLDER = st.lists(TEXT | REST, max_size=3).map(lambda parts: "/" + "/".join(parts))


def sets() -> st.SearchStrategy[Answers]:
    """Draw sets of answers, of which most are accepted."""
    return st.fixed_dictionaries(
        {
            "project_name": TEXT,
            "project_slug": SLUG | st.sampled_from(WORDS),
            "package_name": st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True),
            "description": TEXT,
            "author_name": TEXT,
            "author_email": st.builds("{}.{}@{}.{}".format, ATOM, ATOM, LABEL, LABEL),
            "github_owner": st.from_regex(r"[A-Za-z0-9]{1,9}([._-][a-z0-9]{1,9})?(/[a-z0-9]{1,9})?", fullmatch=True),
            "dvc_remote": REMOTE | FOLDER,
            **{field: st.sampled_from(choices) for field, choices in CHOICES.items()},
        }
    )


@cache
def drawn(count: int = SETS) -> list[Answers]:
    """Draw so many sets that are accepted, and check the sentence of each that is not."""
    found: list[Answers] = []

    @settings(max_examples=4 * count + 50, phases=[Phase.generate], derandomize=True, database=None, deadline=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(sets())
    def draw(answers: Answers) -> None:
        sentence = refusal(answers)
        if sentence is not None:
            check_sentence(sentence, answers)
        elif len(found) < count:
            found.append(answers)

    draw()
    assert len(found) == count
    return found


def check_sentence(sentence: str, answers: Answers) -> None:
    """It names an answer, and stands in one line that any terminal can print."""
    field = sentence.split(maxsplit=1)[0].rstrip(":")
    assert field in answers and sentence.isprintable() and sentence.endswith("."), sentence


def is_refused(answers: Answers, part: str, folder: Path) -> None:
    baked = bake(folder / "out", answers)
    said = baked.output
    assert baked.status != 0 and part in said and said.count("\n") == 1 and "Traceback" not in said, said
    check_sentence(said.strip(), answers | dict.fromkeys(("project_slug", "package_name"), ""))
    assert sorted(path.name for path in folder.iterdir()) == ["home-of-out", "out"]
    assert not list((folder / "out").iterdir())


def run(project: Path, *words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def is_there(program: str | Path) -> bool:
    """Whether a program is there; in CI, and where all attacks are tried, it has to be."""
    found = shutil.which(program) is not None
    assert found or not (os.environ.get("REQUIRE_DOCKER") or os.environ.get("ATTACKS")), f"{program} is missing"
    return found


def url_of(project: Path) -> str | None:
    """Read the remote as DVC does, from a file that is ConfigObj's: interpolated, and a list where a comma is bare."""
    found = re.search(r"(?m)^ +url = (.*)$", (project / ".dvc/config").read_text(encoding="utf-8"))
    if not found:
        return None
    value = found[1]
    assert "%(" not in value and re.fullmatch(r'"[^"]*"', value), value
    return value[1:-1]


def is_accepted(answers: Answers, folder: Path) -> Path:
    """Generate, and let each file be read by what reads it."""
    project = bake(folder / "out", {**answers}).project
    for path in files_of(project):
        if path.suffix not in COPIED:
            parse(path)
    metadata = ProjectMetadata(str(project), PluginManager())
    metadata.validate_fields()
    table = parse_toml(project / "pyproject.toml")["project"]
    slug = answers.get("project_slug", project.name)
    assert project.name == slug and table["name"] == slug.lower()
    compose = parse_yaml(project / "compose.yaml")["services"]
    assert {service["image"] for service in compose.values()} == {
        slug.lower() + end for end in ("", "-alone", "-mlflow", "-serve")
    }
    for name, field in {"mlflow": "experiment_name", "wandb": "project"}.items():
        assert parse_yaml(project / f"configs/logger/{name}.yaml")[name][field] == slug
    citation = parse_yaml(project / "CITATION.cff")
    for field, found in {
        "project_name": citation["title"],
        "description": table["description"],
        "author_name": citation["authors"][0]["name"],
        "author_email": table["authors"][0]["email"],
        "dvc_remote": url_of(project) or "",
    }.items():
        assert found == answers.get(field, found), field
    assert "make train" in run(project, "make", "help")
    assert run(project, "git", "status", "--porcelain") == ""
    if is_there("docker"):
        run(project, "docker", "compose", "--profile", "*", "config", "--quiet")
    if is_there(CITATION):
        run(project, CITATION, "--validate", "-i", "CITATION.cff")
    if is_there(PYTHON):
        listed = run(project, PYTHON, "-m", "dvc", "remote", "list")
        wanted = answers.get("dvc_remote", "").strip()
        assert bool(listed) == bool(wanted) and wanted in listed, listed
    return project


def trains(number: int, folder: Path) -> None:
    """Set a drawn project up, and train in it: with this Python, for which PyTorch is certainly here."""
    project = is_accepted(drawn()[number] | {"python_version": "{}.{}".format(*sys.version_info)}, folder)
    done = subprocess.run(["make", "train", "test", "lint"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, f"{drawn()[number]}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    run(project, ".venv/bin/python", "-m", "dvc", "remote", "list")
    shutil.rmtree(project / ".venv")


def works(answers: Answers, folder: Path) -> None:
    try:
        is_accepted(answers, folder)
    except Exception as error:
        raise AssertionError(f"{answers}: {error}") from error


def drawn_works(number: int, folder: Path) -> None:
    works(drawn()[number], folder)


CASES = [
    *(Attack("refused answers", f"{answers}", partial(is_refused, answers, part)) for answers, part in REFUSED),
    *(Attack("accepted answers", f"{answers}", partial(works, answers)) for answers in TYPED),
    *(Attack("accepted answers", f"drawn set {number}", partial(drawn_works, number)) for number in range(SETS)),
]
REAL = [Attack("answers set up", f"drawn set {n}", partial(trains, n)) for n in range(0, SETS, EVERY_REAL)]
