"""A project of another shape is adopted by the few lines that docs/adopt.md shows, in both spellings of Lightning."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .project import LIBRARY, UserError, module

SPELLINGS = ("pytorch_lightning", "lightning.pytorch")
MOST_CHANGED = 15  # lines
PAGE = LIBRARY.parent / "docs/adopt.md"
OTHER_READER = """import numpy
loadtxt = numpy.loadtxt
numpy.loadtxt = lambda *words, **named: loadtxt(*words, **named) * numpy.float32(1.001)
"""


def shown_diff() -> str:
    (found,) = re.findall(r"```diff\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    return str(found)


class Adopted:
    """The foreign project in a folder of its own, adopted."""

    def __init__(self, root: Path, spelling: str) -> None:
        self.root, self.pinned = root, dict[str, str]()  # environment variables
        shutil.copytree(LIBRARY / "tests/foreign", root)
        (root / "data").mkdir()
        draw = random.Random(1)
        points = [(x, math.sin(x) + draw.gauss(0, 0.1)) for x in (draw.uniform(-3, 3) for _ in range(200))]
        (root / "data/points.csv").write_text("".join(f"{x},{y}\n" for x, y in points))
        self.git("init", "-q")
        self.git("add", "--all")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "as it was")
        subprocess.run(["git", "apply"], cwd=root, input=shown_diff(), text=True, check=True)
        self.diff = self.git("diff")
        if spelling != "lightning.pytorch":
            for path in [*root.rglob("*.py"), *root.rglob("*.yaml")]:
                text = path.read_text().replace("import lightning as L", f"import {spelling} as L")
                path.write_text(text.replace("lightning.pytorch.", f"{spelling}."))

    def git(self, *words: str) -> str:
        return subprocess.run(["git", *words], cwd=self.root, text=True, check=True, stdout=subprocess.PIPE).stdout

    def start(self, *words: str, first: str = "", cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start Python with some words in the project; its modules are looked for in the folder `first` at first."""
        spec = find_spec("lightning")
        paths = [first, str(LIBRARY / "src"), str(Path(spec.origin or "").parents[1]) if spec else ""]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment |= self.pinned
        environment.pop("HYDRA_FULL_ERROR", None)
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([sys.executable, *words], cwd=cwd or self.root, env=environment, **options)

    def call(self, *words: str, status: int = 0, first: str = "", cwd: Path | None = None) -> str:
        process = self.start(*words, first=first, cwd=cwd)
        output, _ = process.communicate(timeout=180)
        assert process.returncode == status, output
        return output

    def verdict(self, *words: str, status: int, **where: Any) -> str:
        output = self.call("-m", "samebits", *words, status=status, **where)
        (found,) = re.findall(r"^([A-Z]{3,}(?: INPUTS)?)(?: so far)?   ", output, re.M)
        return str(found)

    def run(self, folder: str = "logs/runs", name: str = "fit") -> Path:
        (found,) = (self.root / folder).glob(f"{name}-*")
        return found


@pytest.fixture(scope="module", params=SPELLINGS)
def adopted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Adopted:
    """Adopt the project and train it once, by its own command, from another folder."""
    made = Adopted(tmp_path_factory.mktemp("adopted") / "curve", request.param)
    made.call(str(made.root / "src/train.py"), "trainer.max_epochs=20", cwd=made.root.parent)
    made.pinned = record(made.run())["environment"]["variables"]  # which the next ones need not start anew for
    return made


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "record.json").read_text()))


def test_few_lines_change_and_the_page_shows_them(tmp_path: Path) -> None:
    project = Adopted(tmp_path / "curve", "lightning.pytorch")
    changed = [line for line in project.diff.splitlines() if re.match(r"[+-](?![+-]{2} )", line)]
    assert sum(line.startswith("+") for line in changed) <= len(changed) <= MOST_CHANGED
    shown = re.sub(r"^index .*\n", "", shown_diff(), flags=re.M)
    assert shown == re.sub(r"^index .*\n", "", project.diff, flags=re.M)


def test_a_run_leaves_record_and_trace_in_its_own_folder(adopted: Adopted) -> None:
    run = adopted.run()
    names = {path.name for path in run.iterdir()}
    assert names >= {"record.json", "trace.jsonl", "history.csv", "metrics.json", "model.safetensors", "config.yaml"}
    assert list((run / "checkpoints").glob("epoch_*.ckpt")) and (run / "csv/version_0/metrics.csv").exists()
    assert str(adopted.root) not in (run / "config.yaml").read_text()
    assert sorted(path.name for path in (adopted.root / "logs").iterdir()) == ["runs"]  # none of Hydra's own
    made = record(run)
    assert set(made["inputs"]["code"]) == {f"src/{name}.py" for name in ("__init__", "data", "model", "train")}
    assert set(made["inputs"]["data"]) == {"data/points.csv"} and made["inputs"]["outside"] == {}
    assert made["inputs"]["lock"] == {} and made["environment"]["packages"]["torch"]
    assert made["environment"]["variables"]["ATEN_CPU_CAPABILITY"] == "avx2"  # portable, though torch came first
    assert made["source"]["overrides"] == ["trainer.max_epochs=20"]
    kept = json.loads((run / "metrics.json").read_text())["val/loss"]
    history = [line.split(",") for line in (run / "history.csv").read_text().splitlines()[1:]]
    assert math.isclose(kept, min(float(value) for *_, name, value in history if name == "val/loss"))  # the best's
    assert "trained already" in adopted.call("-m", "src.train", "trainer.max_epochs=20")


def test_it_is_trained_again_and_shown_and_bundled(adopted: Adopted, tmp_path: Path) -> None:
    run = adopted.run()
    assert adopted.verdict("reproduce", status=0) == "IDENTICAL"
    shown = adopted.call("-m", "samebits", "show", str(run))
    assert "python -m src.train trainer.max_epochs=20" in shown and "lock      none" in shown and "IDENTICAL" in shown
    assert "IDENTICAL" in adopted.call("-m", "samebits", "compare", str(run), str(run))
    kept = shutil.move(adopted.root / ".git", tmp_path / "git")
    adopted.call("-m", "samebits", "bundle")  # of the code here, where Git is gone
    shutil.move(kept, adopted.root / ".git")
    said = adopted.call("-m", "samebits", "bundle")
    assert "samebits reproduce" in said and "make" not in said
    (archive,) = (adopted.root / "dist").glob("*.zip")
    zipfile.ZipFile(archive).extractall(tmp_path)
    (unpacked,) = tmp_path.glob("curve-fitting-*")
    assert adopted.verdict("probe", status=0, cwd=unpacked) == "IDENTICAL"
    shutil.rmtree(adopted.root / "dist")


def test_a_run_that_was_killed_ends_as_if_nothing_had_happened(adopted: Adopted) -> None:
    words = ("src/train.py", "trainer.max_epochs=20", "samebits.models=logs/cut", "callbacks.resume.every_n_steps=2")
    process = adopted.start(*words)
    while process.poll() is None and not list(adopted.root.glob("logs/cut/*/checkpoints/resume-*.ckpt")):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not list(adopted.root.glob("logs/cut/*/metrics.json")), "it ended before it could be killed"
    assert "going on from step" in adopted.call(*words)
    alone, cut = adopted.run(), adopted.run("logs/cut")
    assert record(cut)["outputs"] == record(alone)["outputs"] and record(cut)["observed"]["starts"] == 2
    for name in ("trace.jsonl", "history.csv", "metrics.json"):
        assert (cut / name).read_bytes() == (alone / name).read_bytes(), name


def test_groups_may_be_plain_values(tmp_path: Path) -> None:
    project = Adopted(tmp_path / "curve", "lightning.pytorch")
    for path, *changes in (
        ("configs/train.yaml", ("\ndata:", "\ndata: points\ndataset:"), ("- model:", "- model@network:")),
        ("configs/train.yaml", ("\nseed:", "\nmodel: mlp\nseed:")),
        ("src/train.py", ("cfg.data", "cfg.dataset"), ("cfg.model", "cfg.network")),
    ):
        text = (project.root / path).read_text()
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        (project.root / path).write_text(text)
    project.call("src/train.py", "trainer.max_epochs=1")
    assert record(project.run())["inputs"]["config"]["data"] == "points"
    assert project.verdict("reproduce", str(project.run()), status=0) == "IDENTICAL"
    assert "mlp" in project.call("-m", "samebits", "show", str(project.run()))
    project.call("-m", "samebits", "bundle", str(project.run()))


def test_another_environment_is_told_from_chance(adopted: Adopted, tmp_path: Path) -> None:
    run = str(adopted.run())
    (tmp_path / "sitecustomize.py").write_text(OTHER_READER)
    assert adopted.verdict("probe", run, status=1, first=str(tmp_path)) == "ENVIRONMENT"
    path = adopted.root / "src/model.py"
    before = path.read_text()
    path.write_text(before.replace("self.log(", "loss = loss * (1 + time.time() % 1)\n        self.log(", 1))
    path.write_text(path.read_text().replace("from typing", "import time\nfrom typing", 1))
    try:
        adopted.call("src/train.py", "trainer.max_epochs=1", "run_name=chance")
        assert adopted.verdict("probe", str(adopted.run(name="chance")), status=1) == "NONDETERMINISTIC"
    finally:
        path.write_text(before)


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, adoption = module("samebits.engine.project"), module("samebits.engine.adoption")
    table = '[tool.samebits]\npackage = "src"\n'
    for number, (line, message) in enumerate(
        {'data = ["/data"]': "must name what is in the project", 'dat = "x"': "means nothing there"}.items()
    ):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}/pyproject.toml").write_text(f"{table}{line}\n")
        with pytest.raises(UserError, match=message):
            project._find(tmp_path / f"{number}")
    (tmp_path / "pyproject.toml").write_text(f'{table}data = ["data"]\n')
    found = project._find(tmp_path)
    assert (found.train, found.runs, found.paths) == ("src.train", tmp_path / "logs/runs", "samebits")
    monkeypatch.setattr(project, "_chosen", [tmp_path])
    with pytest.raises(UserError, match="data holds no file"):
        adoption.require_data({"other/data/x": ""}, ("data",))
    adoption.require_data({"data/x": ""}, ("data",))
    (tmp_path / "src").mkdir()
    for words, message in (
        (("src/fit.py", "../configs", "train", "1.3"), 'write train = "src.fit"'),
        (("src/train.py", "../conf", "train", "1.3"), 'write configs = "conf"'),
        (("src/train.py", "../configs", "base.yaml", None), 'write config = "base"'),
        (("src/train.py", "../configs", "train", "1.1"), 'write "1.3"'),
    ):
        with pytest.raises(UserError, match=message):
            adoption.require_program(tmp_path / words[0], *words[1:])
    adoption.require_program(tmp_path / "src/train.py", "../configs", "train.yaml", "1.3")
