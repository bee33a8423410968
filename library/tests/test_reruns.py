"""A re-run trains what the record says, and IDENTICAL is not said where the data are not what the code here makes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .forging import rewrite
from .project import FEW, NAME, ROOT, UserError, module, pipeline

pytest.importorskip("dvc")
records, engine_project = module("samebits.engine.record"), module("samebits.engine.project")
data_stages, run_loader = module("samebits.verify.data_stages"), module("samebits.engine.run_loader")
rerun = module("samebits.verify.rerun")
DATA = f"src/{NAME}/data"
PROCESSED = "data/processed/digits"
Edit = Callable[[Path], object]


def call(project: Path, *words: str, status: int | None = 0) -> str:
    paths = os.pathsep.join([os.environ["PYTHONPATH"].split(os.pathsep)[0], str(project / "src")])
    environment = os.environ | {"PYTHONPATH": paths, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=project, env=environment, capture_output=True, text=True)
    assert status in (None, done.returncode), done.stdout + done.stderr
    return done.stdout


def git(project: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *words], cwd=project, check=True, capture_output=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project whose pipeline has prepared the data, and train in it."""
    project = tmp_path_factory.mktemp("pipeline") / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns("__pycache__", ".cache", ".dvc"))
    (project / "data/external").mkdir(parents=True)
    (project / "data/external/notes.txt").write_text("notes\n")
    (project / "dvc.yaml").write_text(pipeline("data/external/notes.txt"))
    for folder in ("raw", "processed"):
        edit("configs/train.yaml", f"/data/{folder}\n", f"/data/{folder}/${{data.name}}\n")(project)
    helper = f"src/{NAME}/scale.py"
    (project / helper).write_text("SCALE = 1\n")
    edit(f"{DATA}/prepare.py", "from .images import SIDE\n", "from ..scale import SCALE\nfrom .images import SIDE\n")(
        project
    )
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 1024 * SCALE")(project)
    (project / ".gitignore").write_text(
        "/data/*\n!/data/external\n/models/*\n__pycache__\n/.cache\n/.dvc/tmp\n/.dvc/cache\n"
    )
    git(project, "init", "--quiet")
    call(project, "dvc", "init", "--quiet")
    (project / ".dvcignore").write_text("# not seen by DVC\n__pycache__\n.DS_Store\n")
    call(project, "dvc", "repro", "--quiet", "prepare")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message=first")
    call(project, f"{NAME}.train", *FEW)
    return project


@pytest.fixture
def project(made: Path) -> Iterator[Path]:
    """Give the project, and put everything back afterwards."""
    engine_project.use_project(made)
    yield made
    engine_project._chosen.pop()
    git(made, "checkout", "--quiet", ".")
    git(made, "clean", "--force", "--quiet", "-d", "src", "configs", "data")


def edit(name: str, old: str, new: str) -> Edit:
    def change(project: Path) -> None:
        content = (project / name).read_text()
        assert old in content
        (project / name).write_text(content.replace(old, new, 1))

    return change


def write(name: str, text: str) -> Edit:
    def change(project: Path) -> None:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)

    return change


def reorder(project: Path) -> None:
    path = project / "configs/data/digits.yaml"
    parts = re.split(r"(?m)^(?=\w)", path.read_text())
    path.write_text("".join(reversed(parts)))


def run_of(project: Path) -> Path:
    (run,) = project.glob("models/debug-fast-cnn*-*")
    return run


def stages(project: Path) -> Any:
    run = run_of(project)
    record, before = records.read_record(run), project.parent / f"recorded-{os.urandom(4).hex()}"
    module("samebits.verify.provenance_diff").export_code(record, run, before)
    return data_stages.DataStages(record, run_loader.read_config(run, project), project, project, before)


def another(project: Path) -> None:
    text = (project / "configs/data/digits.yaml").read_text()
    write("configs/data/other.yaml", text.replace("name: digits", "name: other").replace("0.15", "0.2"))(project)
    edit("configs/train.yaml", "- data: digits", "- data: other")(project)


def renamed(project: Path) -> None:
    """Give the stage another name and run it; dvc.lock keeps the former one, which was run with other code."""
    edit("dvc.yaml", "  prepare:", "  arrays:")(project)
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 512")(project)
    call(project, "dvc", "repro", "--quiet", "arrays")


INNOCENT: dict[str, Edit] = {
    "nothing": lambda project: None,
    "a docstring": edit(f"{DATA}/prepare.py", '"""', '"""Other words. '),
    "another data set by default": another,
    "a comment in prepare.py": edit(f"{DATA}/prepare.py", "BLOCK = 1024", "# a comment\nBLOCK  =  1024"),
    "code that only the training imports": edit(f"{DATA}/datamodule.py", '"""', '"""Other words. '),
    "a comment in configs/data": edit("configs/data/digits.yaml", "name: digits", "# a comment\nname: digits"),
    "configs/data in another order": reorder,
    "another model by default": edit("configs/train.yaml", "- model: cnn", "- model: mlp"),
    "files of the system": write(f"{DATA}/.DS_Store", "finder"),
    "a stage of another name": renamed,
    "no lock": lambda project: (project / "dvc.lock").unlink(),
    "a batch size": edit("configs/data/digits.yaml", "batch_size: 32", "batch_size: 16"),
}
OUTDATED: dict[str, tuple[Edit, str]] = {
    "prepare.py": (
        edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 1000"),
        f"stage prepare@digits {DATA}/prepare.py",
    ),
    "a file that it imports": (
        edit(f"{DATA}/images.py", "SIDE = 8", "SIDE = 4 + 4"),
        f"stage prepare@digits {DATA}/images.py",
    ),
    "one that dvc.yaml does not name": (
        write(f"src/{NAME}/scale.py", "SCALE = 2\n"),
        f"stage prepare@digits src/{NAME}/scale.py",
    ),
    "a file that is no code": (
        write("data/external/notes.txt", "others\n"),
        "stage prepare@digits data/external/notes.txt",
    ),
    "the split": (edit("configs/data/digits.yaml", "test: 0.15", "test: 0.2"), "stage prepare@digits data.split.test"),
    "the command": (edit("dvc.yaml", "data.prepare", "data.prepare x=1"), "stage prepare@digits cmd"),
    "a configuration that is broken": (
        edit("configs/data/digits.yaml", "split:", "split: ["),
        "stage prepare@digits configs/data",
    ),
}


def test_an_md5_is_that_of_dvc(project: Path) -> None:
    lock = data_stages.read_stages(project / "dvc.lock")
    assert list(data_stages.stages_of(lock, PROCESSED)) == ["prepare@digits", "fetch@digits"]
    deps, outs = (data_stages.md5_of(lock["prepare@digits"], key) for key in ("deps", "outs"))
    assert set(outs) == {PROCESSED} and DATA in deps
    assert {path: data_stages.dvc_md5(project / path) for path in deps | outs} == deps | outs


def test_a_stage_with_foreach_is_one_for_each_data_set(project: Path) -> None:
    stages = data_stages.read_pipeline(project / "dvc.yaml", ["digits", "other"])
    assert list(stages) == ["fetch@digits", "fetch@other", "prepare@digits", "prepare@other"]
    assert stages["prepare@other"]["cmd"] == f"python -m {NAME}.data.prepare data=other"
    assert list(data_stages.md5_of(stages["prepare@other"], "outs")) == ["data/processed/other"]
    assert list(data_stages.stages_of(stages, "data/processed/other")) == ["prepare@other", "fetch@other"]
    for empty in ("", "stages:\n", "stages:\n  prepare:\n"):
        write("dvc.yaml", empty)(project)
        assert data_stages.read_pipeline(project / "dvc.yaml", ["digits"]) == {}
    for broken in ("stages: [", "stages: [a]\n", "- a\n", "x"):
        write("dvc.yaml", broken)(project)
        with pytest.raises(UserError, match=r"dvc\.yaml is damaged \(.*restore it"):
            data_stages.read_pipeline(project / "dvc.yaml", ["digits"])
    write("dvc.yaml", "stages:\n  prepare:\n    cmd: make it\n    outs:\n      - a:\n          cache: false\n")(project)
    stages = data_stages.read_pipeline(project / "dvc.yaml", ["digits"])
    assert stages == {"prepare": {"cmd": "make it", "deps": [], "outs": [{"path": "a"}]}}


def test_code_that_changed_since_the_run_counts_where_no_lock_knows(project: Path) -> None:
    (project / "dvc.lock").unlink()
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 512")(project)
    here = stages(project)
    assert [row[0] for row in here.outdated()] == [f"stage prepare@digits {DATA}/prepare.py"]
    (here.before / "dvc.lock").unlink()
    assert data_stages.DataStages(here.record, here.cfg, project, here.before, project).outdated() == []


@pytest.mark.parametrize("name", INNOCENT)
def test_what_makes_no_other_data_is_no_fault(project: Path, name: str) -> None:
    before = {
        path: path.read_bytes() for path in (project / "dvc.lock", project / f"{DATA}/.DS_Store") if path.exists()
    }
    INNOCENT[name](project)
    assert stages(project).outdated() == []
    for path, content in before.items():
        path.write_bytes(content)


@pytest.mark.parametrize("name", OUTDATED)
def test_data_that_the_code_does_not_make_are_told_of(project: Path, name: str) -> None:
    change, cause = OUTDATED[name]
    change(project)
    assert [row[0] for row in stages(project).outdated()] == [cause]
    assert [row[0] for row in stages(project).why([("data a.npy", "1", "2")])[0]][:1] in ([cause], ["data a.npy"])


def test_exchanged_arrays_are_not_what_the_stage_wrote(project: Path) -> None:
    path, rows = project / PROCESSED / "val_labels.npy", [("data val_labels.npy", "1", "2")]
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes(8))
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 512")(project)  # which is not the cause
    found, why = stages(project).outdated(), stages(project).why(rows)
    path.write_bytes(content)
    assert [row[0] for row in found][:1] == [f"stage prepare@digits {PROCESSED}"]
    assert why[0] == rows and f"the files in {PROCESSED} are not those that" in why[1][0]


def test_a_changed_prepare_is_named_before_and_after_the_data_are_made(project: Path) -> None:
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 512")(project)
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--probe", status=1))
    assert said["verdict"] == "DIFFERENT INPUTS" and said["comparison"]["divergence"] is None
    assert f"{DATA}/prepare.py (stage prepare@digits) changed since" in said["causes"][0]
    rows = [("data a.npy", "1", "2"), ("data b.npy", "1", "2")]
    inputs, causes = stages(project).why(rows)
    assert [name for name, *_ in inputs] == [f"stage prepare@digits {DATA}/prepare.py", f"data 2 files in {PROCESSED}"]
    assert causes == [f"{DATA}/prepare.py changed since the run was trained, and the data are made by it"]
    git(project, "checkout", "--quiet", ".")
    assert stages(project).why(rows) == (rows, [])


def test_recorded_code_is_held_against_its_own_lock(project: Path) -> None:
    """The code here has made the same data anew since: neither it nor what it imports says anything of the record's."""
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 512")(project)
    write(f"src/{NAME}/scale.py", "SCALE = 3 - 2\n")(project)
    call(project, "dvc", "repro", "--quiet", "prepare")
    here = stages(project)
    assert [row[0] for row in here.outdated()] == [f"stage prepare@digits src/{NAME}/scale.py"]  # no dep of the stage
    recorded = data_stages.DataStages(here.record, here.cfg, project, here.before, project)
    assert recorded.outdated() == []
    (here.before / "dvc.lock").unlink()  # then there is only the one here, which names other code
    recorded = data_stages.DataStages(here.record, here.cfg, project, here.before, project)
    assert [row[0] for row in recorded.outdated()] == [f"stage prepare@digits {DATA}/prepare.py"]


def test_a_bundle_takes_no_lock_of_other_code(project: Path, tmp_path: Path) -> None:
    collect = module("samebits.bundle.bundle").collect
    run = run_of(project)
    assert collect(run, tmp_path / "a", True, project).files["dvc.lock"] == project / "dvc.lock"
    edit(f"{DATA}/prepare.py", "BLOCK = 1024", "BLOCK = 512")(project)
    assert "dvc.lock" not in collect(run, tmp_path / "b", True, project).files


# --- what is trained


def test_settings_in_configs_are_compared_by_themselves(project: Path) -> None:
    edit("configs/model/cnn.yaml", "channels: [32, 64]", "channels: [32, 32]")(project)
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--no-file"))
    assert said["verdict"] == "IDENTICAL" and said["inputs"] == [] and said["settings"] == "recorded"
    assert "model.network.channels: [32, 64] recorded, [32, 32] here" in said["remarks"][0]
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--no-file", "--config", "here", status=1))
    assert said["verdict"] == "DIFFERENT INPUTS" and said["comparison"]["divergence"] and said["settings"] == "here"
    assert said["inputs"] == [["settings model.network.channels", "[32, 64]", "[32, 32]"]]
    git(project, "checkout", "--quiet", ".")
    edit("configs/model/cnn.yaml", "lr: 0.002", "lr: 2.0e-3 # a comment")(project)
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--no-file", "--config", "here"))
    assert said["verdict"] == "IDENTICAL"


def test_settings_that_alter_nothing_are_others_all_the_same(project: Path) -> None:
    edit("configs/data/digits.yaml", "eval_batch_size: 128", "eval_batch_size: 127")(project)
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--probe", "--config", "here", status=1))
    assert said["verdict"] == "DIFFERENT INPUTS" and said["comparison"]["divergence"] is None
    edit("configs/data/digits.yaml", "module:", "module: [")(project)
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--probe", "--config", "here", status=1))
    assert said["verdict"] == "DIFFERENT INPUTS" and "cannot be composed" in said["causes"][0]


def forge(run: Path, old: Any, new: Any, *keys: str) -> Path:
    """Change a setting in a record and config.yaml, and give everything the name and the seal that fit."""
    record = records.read_record(run)
    node = record["inputs"]["config"]
    for key in keys[:-1]:
        node = node[key]
    assert node[keys[-1]] == old
    node[keys[-1]] = new
    name = f"{run.name.rpartition('-')[0]}-{module('samebits.engine.inputs').inputs_id(record['inputs'])}"
    forged = Path(shutil.copytree(run, run.with_name(name)))
    cfg = module("omegaconf").OmegaConf.load(run / "config.yaml")
    module("omegaconf").OmegaConf.update(cfg, ".".join(keys), new)
    (forged / "config.yaml").write_text(module("omegaconf").OmegaConf.to_yaml(cfg))
    from safetensors.torch import load_file, save_file

    save_file(load_file(run / "model.safetensors"), forged / "model.safetensors", {"run": name})
    record["run"] = name
    records.write_record(forged, record)
    digits = name.rpartition("-")[2]
    rewrite(forged, lambda rows: [row.update(inputs=digits) for row in rows if "inputs" in row])
    return forged


def test_a_setting_that_was_forged_everywhere_is_trained(project: Path) -> None:
    betas = forge(run_of(project), [32, 64], [64, 32], "model", "network", "channels")
    assert module("samebits.verify.provenance_diff").contradictions(betas, records.read_record(betas)) == []
    said = json.loads(call(project, "samebits", "reproduce", str(betas), "--json", "--no-file", status=1))
    assert said["verdict"] != "IDENTICAL" and said["comparison"]["divergence"]
    shutil.rmtree(betas)


def test_neither_the_words_of_the_command_nor_configs_are_trained(project: Path) -> None:
    run = run_of(project)
    record = records.read_record(run)
    records.write_record(run, record | {"source": record["source"] | {"overrides": [*FEW, "model.optimizer.lr=0.9"]}})
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--probe"))
    assert said["verdict"] == "IDENTICAL" and said["inputs"] == []
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--probe", "--config", "here", status=1))
    assert said["inputs"] == [["settings model.optimizer.lr", "0.002", "0.9"]]
    records.write_record(run, record)
    # the one group that a re-run takes from configs/ is Hydra's own; whatever it holds, the re-run's record tells
    write("configs/hydra/project.yaml", "# @package _global_\nmodel:\n  optimizer:\n    weight_decay: 0.0001\n")(
        project
    )
    said = json.loads(call(project, "samebits", "reproduce", "--json", "--probe", status=1))
    assert said["verdict"] == "DIFFERENT INPUTS"
    assert said["inputs"] == [["settings model.optimizer.weight_decay", "0.0", "0.0001"]]


def test_recorded_settings_are_written_as_they_were(project: Path) -> None:
    run = run_of(project)
    record, saved = records.read_record(run), run_loader.read_config(run, project)
    record["inputs"]["config"]["model"]["words"] = ["a\\${b}", {"c": "./data"}]
    cfg = rerun.recorded_settings(record, saved, project)
    plain = module("omegaconf").OmegaConf.create(module("omegaconf").OmegaConf.to_yaml(cfg))
    assert plain.model.words[0] == "a\\${b}" and plain.model.words[1].c == f"{project}/data"
    assert module("samebits.engine.inputs").settings_that_count(saved) == records.read_record(run)["inputs"]["config"]
    cfg.something = 1  # which configs/train.yaml had once
    module("samebits.engine.config").check(cfg, saved=True)
