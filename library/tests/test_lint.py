"""`samebits lint`: each rule with cases that break it and with innocent twins, what allows a line, exit statuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from .project import LIBRARY, ROOT, module

lint = module("samebits.lint.lint")
RULES = module("samebits.lint.rules").RULES
HEAD = """
import argparse, datetime, glob, hashlib, itertools, json, os, pathlib, pickle, random, secrets, sys, time, uuid
import numpy as np, pandas as pd, requests, samebits, torch
from collections import Counter, OrderedDict, defaultdict
from concurrent.futures import as_completed
from pathlib import Path
from time import time as now
"""
CLOCK = "import time\nx = time.time(){}\n"


def cases(name: str) -> list[tuple[str, str]]:
    """Return rule and code of each case in a file: rules are titles after ===, and --- is between their cases."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    sections = (section.partition("\n") for section in text.split("\n=== ")[1:])
    return [(rule, code.strip("\n")) for rule, _, listed in sections for code in listed.split("\n---\n")]


BREAKS, INNOCENT = cases("lint_breaks.txt"), cases("lint_innocent.txt")


def found(code: str, path: str = "models/net.py", **options: object) -> list[tuple[int, str]]:
    return [(each.line, each.rule) for each in lint.check(code.encode(), path, **options) if not each.allowed]


@pytest.mark.parametrize(("rule", "code"), BREAKS)
def test_what_breaks_a_rule_is_found(rule: str, code: str) -> None:
    assert {name for _, name in found(HEAD + code)} == {rule}


@pytest.mark.parametrize(("rule", "code"), INNOCENT)
def test_its_innocent_twin_is_not(rule: str, code: str) -> None:
    assert found(HEAD + code) == []


def test_there_are_at_most_twelve_rules_each_with_four_cases_and_as_many_twins() -> None:
    assert len(RULES) <= 12
    for listed in (BREAKS, INNOCENT):
        counts = Counter(rule for rule, _ in listed)
        assert set(RULES) <= set(counts) and min(counts.values()) >= 4


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (CLOCK.format("  # samebits: allow clock: it names the log"), []),
        (CLOCK.format("  # samebits: allow clock (names the log)"), []),
        ("import time\n# samebits: allow clock - the log's name\nx = time.time()\n", []),
        ("import time\n# samebits: allow clock - the log's name\n\nx = [\n    time.time(),\n]\n", ["clock"]),
        ("import time\nx = time.time(\n    # samebits: allow clock: why not\n)\n", []),
        (CLOCK.format("  # samebits: allow hash, clock: both for the log"), []),
        (CLOCK.format("  # samebits: allow hash: another rule"), ["clock"]),
        (CLOCK.format("  # samebits: allow clock"), ["allow", "clock"]),
        (CLOCK.format("  # samebits: allow clok: a slip"), ["allow", "clock"]),
        (CLOCK.format("  # samebits: allow"), ["allow", "clock"]),
        (CLOCK.format("; y = '# samebits: allow clock: only a text'"), ["clock"]),
        (CLOCK.format("  # noqa: clock"), ["clock"]),
    ],
)
def test_a_comment_with_a_reason_allows_a_line(code: str, wanted: list[str]) -> None:
    assert [name for _, name in found(code)] == wanted


def test_the_command_that_trains_has_no_words_of_its_own() -> None:
    code = "import sys\nfold = int(sys.argv[1])\nif __name__ == '__main__':\n    print(fold)\n"
    assert found(code) == [] and found(code, is_training=True) == [(2, "outside-read")]


def test_an_adopted_projects_data_are_where_its_table_says() -> None:
    code = "import numpy as np\nx = np.load('points/x.npy')\nnp.save('points/x.npy', 2 * x)\n"
    assert found(code) == [(2, "outside-read")] and found(code, data=("points",)) == [(3, "data-edit")]


def test_suspects_name_calls_and_what_was_allowed_comes_last(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CLOCK.format("  # samebits: allow clock: for the log"))
    (tmp_path / "b.py").write_text("import os\nx = os.urandom(2)\n")
    (tmp_path / "c.py").write_text("not python")
    files = {path.name: path for path in tmp_path.glob("*.py")}
    assert lint.suspects(files) == ["b.py:2 calls os.urandom()", "a.py:2 calls time.time() (allowed: for the log)"]


def command(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "samebits", "lint", *words], cwd=cwd, capture_output=True, text=True)


def test_the_command_prints_a_line_each_and_ends_with_1(tmp_path: Path) -> None:
    done = command()
    assert done.returncode == 0 and done.stdout.startswith("Nothing irreproducible was found in 12 files"), done.stdout
    project = Path(shutil.copytree(ROOT, tmp_path / "project"))
    network = project / "src/dummy/models/network.py"
    network.write_text(network.read_text() + "\n\nimport os\nWIDTH = os.environ['WIDTH']\n")
    at = f"src/dummy/models/network.py:{len(network.read_text().splitlines())}"
    done = command(cwd=project)
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "Found 1 in 12 files."
    assert done.stdout.startswith(f"{at}: outside-read: reads the environment variable WIDTH; make it a setting")
    done = command("--json", cwd=project / "src")
    (row,) = json.loads(done.stdout)
    assert done.returncode == 1 and row["rule"] == "outside-read" and row["path"] == at.removeprefix("src/")[:-3]
    assert command("src/dummy/train.py", cwd=project).returncode == 0

    network.write_text("def broken(:\n")
    for words in ([], ["--json"]):
        done = command(*words, cwd=project)
        assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: src/dummy/models/network.py:1 is no Python"), done.stderr
    network.write_bytes(b"x = '\xff'\n")
    assert command(cwd=project).returncode == command("nothing.py", cwd=project).returncode == 2


def test_the_rules_are_printed_with_reasons_and_mends() -> None:
    said = command("--rules").stdout
    assert all(f"{rule.name}\n" in said and rule.reason in said and rule.mend in said for rule in RULES.values())
    assert [each["name"] for each in json.loads(command("--rules", "--json").stdout)] == list(RULES)


def test_an_adopted_project_is_read_too(tmp_path: Path) -> None:
    project = Path(shutil.copytree(LIBRARY / "tests/foreign", tmp_path / "foreign"))
    with (project / "pyproject.toml").open("a") as file:
        file.write('\n[tool.samebits]\npackage = "src"\ndata = ["data"]\n')
    done = command(cwd=project)
    assert done.returncode == 0 and "in 4 files" in done.stdout, done.stdout + done.stderr


def test_nothing_of_torch_is_loaded() -> None:
    code = "import sys; from samebits.cli import main; main(['lint']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
