"""What make passes on: the words of ARGS as they were typed, and nothing that make or the shell would make of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .baking import bake

STAND_IN = f"""#!/bin/sh
# Stands in for the environment's Python: runs what splits the words, and prints the words of any other command.
[ "$1" = -c ] && exec "{sys.executable}" "$@"
[ "$2" = dvc ] && exit 0
exec "{sys.executable}" -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""

UV = """#!/bin/sh
# Stands in for uv: writes down what it is asked for, and changes one pin of the lock that it is given to write.
echo "$*" >>asked.txt
for word in "$@"; do last=$word; done
[ -e "$last" ] || echo "missing $last" >>asked.txt
echo "added==1" >>"$last"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate a project that needs no setup."""
    project = bake(tmp_path_factory.mktemp("words") / "out").project
    (project / "requirements/install.sh").write_text("")
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN)
    python.chmod(0o755)
    uv = project / ".venv/bin/uv"
    uv.write_text(UV)
    uv.chmod(0o755)
    (project / "a").touch()  # which [a,b] and ? would match
    return project


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "--silent", *words], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("seed=3  trainer.max_epochs=2", ["seed=3", "trainer.max_epochs=2"]),
        ("run_name=${model_name}-x", ["run_name=${model_name}-x"]),
        ("run_name=$${model_name}-x", ["run_name=${model_name}-x"]),  # as a Makefile would have it
        ("x=${hydra:runtime.choices.model} $(shell echo no) `no`", None),
        ("model=glob(*)", ["model=glob(*)"]),
        ("+tags=[a,b] ?", ["+tags=[a,b]", "?"]),
        ("tags=['a b',\"c\"]", ["tags=[a b,c]"]),
        ("'run_name=${seed} b' \"x=${seed}\"", ["run_name=${seed} b", "x=${seed}"]),
        ("+x={a:1} ~/y a;b #c |d &e <f", ["+x={a:1}", "~/y", "a;b", "#c", "|d", "&e", "<f"]),
    ],
)
@pytest.mark.parametrize("target", ["train", "sweep"])
def test_words_arrive_as_they_were_typed(folder: Path, given: str, wanted: list[str] | None, target: str) -> None:
    done = make(folder, target, f"ARGS={given}")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    start = ["-m", "handwritten_digits.train"] if target == "train" else ["-m", "samebits", "sweep"]
    assert found == [*start, *(given.split() if wanted is None else wanted)]


def test_other_variables_and_no_words_at_all(folder: Path) -> None:
    done = make(folder, "sweep", "SEEDS=0..2", "CLUSTER=slurm", "JOBS=2", "ARGS=model=cnn,mlp")
    words = ["sweep", "model=cnn,mlp", "cluster=slurm", "--seeds", "0..2", "--jobs", "2"]
    assert json.loads(done.stdout) == ["-m", "samebits", *words]
    assert json.loads(make(folder, "status").stdout) == ["-m", "samebits", "status"]
    assert make(folder, "train").returncode == 0  # the pipeline


def test_a_quote_that_is_not_closed_is_refused(folder: Path) -> None:
    done = make(folder, "train", "ARGS=run_name='a")
    assert done.returncode == 2 and done.stderr.startswith("error: ARGS has a quote that is not closed.\n"), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("upgrade", "wanted"),
    [
        ("", ""),
        ("0", ""),
        ("1", " --upgrade"),
        ("numpy pillow", " --upgrade-package numpy --upgrade-package pillow"),
    ],
)
def test_a_lock_is_written_over_the_pins_that_are_there(folder: Path, upgrade: str, wanted: str) -> None:
    locks = {path: path.read_text() for path in (folder / "requirements").glob("*.txt")}
    done = make(folder, "lock", f"UPGRADE={upgrade}")
    assert done.returncode == 0, done.stderr
    asked = (folder / "asked.txt").read_text().splitlines()
    (folder / "asked.txt").unlink()
    assert len(asked) == len(locks) - 1  # all but samebits.txt
    for line in asked:
        # PyTorch's version is that of pyproject.toml, and an upgrade would leave the hashes of the wheels that are here
        this = "" if line.endswith("/torch-cpu.txt") else wanted
        assert f" --no-annotate{this} " in line and "upgrade" not in line.replace(this, "", 1)
    for path, text in locks.items():
        assert path.read_text() == text + "added==1\n" * (path.name != "samebits.txt")
        path.write_text(text)
