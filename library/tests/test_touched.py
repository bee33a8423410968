"""What a training touches besides its inputs is recorded, and named where it has changed; nothing else is."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .project import FEW, NAME, ROOT, UserError, compose, module
from .test_reruns import call, edit, write
from .trainings import prepare

access_log, files = module("samebits.engine.access_log"), module("samebits.engine.files")
inputs, records = module("samebits.engine.inputs"), module("samebits.engine.record")
engine_project = module("samebits.engine.project")
SHORT = (*FEW, "snapshot=false")
WATCH = "+callbacks.touches._target_=dummy.touches.Touches"
TOUCHES = """
import csv, ctypes, gzip, os, shutil, socket, sqlite3, subprocess, tempfile, threading
from pathlib import Path
import numpy as np
import pytorch_lightning as pl
import torch

HERE = Path(__file__).parents[2]

class Touches(pl.Callback):
    def on_train_start(self, trainer, model):
BODY
"""
GUILTY = """
open(os.environ["ELSEWHERE"] + "/plain.txt").read()
np.load("notes/array.npy"), np.load(Path("notes") / "mapped.npy", mmap_mode="r")
Path("notes/by path.txt").read_text()
os.close(os.open("notes/low.bin", os.O_RDONLY))
torch.load("notes/saved.pt", weights_only=True)
list(csv.reader(gzip.open("notes/table.csv.gz", "rt")))
sqlite3.connect("notes/data.db").close()
with open("notes/counter.txt", "r+") as file: file.write(str(int(file.read()) + 1))
exec(Path("notes/script.py").read_text())
from safetensors.torch import load_file
load_file("notes/weights.safetensors")
os.listdir("notes"), [*Path("notes/folder").iterdir()]
os.getenv("SCALE"), os.environ.get("API_TOKEN"), "UNSET" in os.environ
subprocess.run(["env", "SECRET=1", "true"]), os.system("PASSWORD=1 true --token=2")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
try: socket.getaddrinfo("asked.invalid", 443)
except OSError: pass
"""
INNOCENT = """
import matplotlib.font_manager, sklearn.datasets
sklearn.datasets.load_digits()
[*open("data/processed/dataset.json")], np.load("data/processed/train_images.npy", mmap_mode="r")
Path("notes/own.txt").write_text("1"), Path("notes/own.txt").read_text()
Path("notes/own.txt").rename("notes/other.txt"), Path("notes/other.txt").read_text(), os.remove("notes/other.txt")
with open("notes/log.txt", "a+") as file: file.write("x"), file.seek(0), file.read()
os.remove("notes/log.txt")
with tempfile.TemporaryDirectory() as folder:
    np.save(folder + "/x.npy", np.ones(3)), np.load(folder + "/x.npy")
    shutil.copy(folder + "/x.npy", folder + "/y.npy")
    np.load(folder + "/y.npy")
open("/proc/self/status").read(), open("/dev/null").read(), Path(trainer.default_root_dir).exists()
import platform, mimetypes, ssl
platform.freedesktop_os_release(), mimetypes.init(), ssl.create_default_context()
import inspect, linecache
inspect.getsource(Touches), linecache.getlines(__file__)
import importlib; importlib.invalidate_caches(); from . import predict
Path("notes/nothing.txt").exists(), os.environ["SCALE"] if False else None
server = socket.create_server(("127.0.0.1", 0)); socket.create_connection(server.getsockname()).close()
"""


def body(text: str) -> str:
    return TOUCHES.replace("BODY", textwrap.indent(text.strip(), " " * 8))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project with prepared data, and with files that are none."""
    import gzip
    import sqlite3

    import numpy as np
    import torch
    from safetensors.numpy import save_file

    project = tmp_path_factory.mktemp("touched") / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns("__pycache__", ".cache"))
    prepare(project)
    notes = project / "notes"
    (notes / "folder").mkdir(parents=True)
    for name in ("by path.txt", "low.bin", "folder/a", "folder/b"):
        (notes / name).write_text(name)
    (notes / "counter.txt").write_text("1")
    (notes / "script.py").write_text("x = 1")
    (notes / "table.csv.gz").write_bytes(gzip.compress(b"1,2"))
    for name in ("array", "mapped"):
        np.save(notes / f"{name}.npy", np.ones(3))
    torch.save(torch.ones(2), notes / "saved.pt")
    save_file({"x": np.ones(2)}, notes / "weights.safetensors")
    with sqlite3.connect(notes / "data.db") as base:
        base.execute("create table t (x)")
    (project.parent / "elsewhere").mkdir()
    (project.parent / "elsewhere/plain.txt").write_text("plain")
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a copy."""
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    shutil.copytree(made.parent / "elsewhere", tmp_path / "elsewhere")
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    engine_project.use_project(tmp_path / "project")
    yield tmp_path / "project"
    engine_project._chosen.pop()


def train(project: Path, *words: str) -> dict[str, Any]:
    call(project, f"{NAME}.train", *SHORT, *words)
    (run,) = project.glob("models/debug-fast-cnn*-*")
    return dict(records.read_record(run))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_the_code_touches_is_recorded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files by whatever call, folders, variables by name, addresses, programs without their arguments."""
    monkeypatch.setenv("SCALE", "2.5")
    monkeypatch.setenv("API_TOKEN", "hunter2")
    write(f"src/{NAME}/touches.py", body(GUILTY))(project)
    record = train(project, WATCH)
    names = ("array.npy", "by path.txt", "counter.txt", "data.db", "low.bin", "mapped.npy", "saved.pt", "script.py")
    notes = [f"notes/{name}" for name in (*names, "table.csv.gz", "weights.safetensors")]
    outside = record["inputs"]["outside"]
    plain = files.portable_name(project.parent / "elsewhere/plain.txt", project)
    assert sorted(outside) == sorted([*notes, plain])
    assert all(outside[name] == sha256(project / name) for name in notes)
    environment, touched = record["environment"], record["observed"]["touched"]
    assert set(environment["listed"]) == {"notes", "notes/folder"}
    assert set(environment["asked"]) == {"ELSEWHERE", "SCALE", "API_TOKEN", "UNSET"}
    assert len(environment["asked"]["SCALE"]) == 2 and environment["asked"]["API_TOKEN"] == "set"
    assert environment["asked"]["UNSET"] == "not set"
    assert touched["addresses"] == {"192.0.2.1:9": "the training", "asked.invalid:443": "the training"}
    assert touched["programs"] == ["env", "true"]
    text = json.dumps(record)
    assert "hunter2" not in text and "PASSWORD" not in text and "2.5" not in json.dumps(environment["asked"])
    shown = call(project, "samebits", "show")
    assert "outside   " in shown and "listed    notes, notes/folder" in shown and "programs  env, true" in shown
    assert "variables API_TOKEN, ELSEWHERE, SCALE, UNSET (not set)" in shown
    assert "addresses 192.0.2.1:9, asked.invalid:443" in shown


def test_what_is_known_or_made_by_the_run_is_not(project: Path) -> None:
    """Data, packages, source code that is read to be shown, temporary files, the machine: none is named."""
    write(f"src/{NAME}/touches.py", body(INNOCENT))(project)
    record = train(project, WATCH)
    assert record["inputs"]["outside"] == {} or set(record["inputs"]["outside"]) == {f"src/{NAME}/predict.py"}
    assert record["environment"]["asked"] == {} and record["environment"]["listed"] == {}
    touched = record["observed"]["touched"]
    assert set(touched["addresses"].values()) <= {"this computer"} and touched["programs"] == []


SCALED = f"src/{NAME}/data/images.py"


def scaled(project: Path, code: str) -> None:
    """Let each batch of images be multiplied by what `code` makes."""
    edit(SCALED, "def to_input(", f"def _scale():\n{textwrap.indent(textwrap.dedent(code), '    ')}\n\ndef to_input(")(
        project
    )
    text = (project / SCALED).read_text()
    start = text.index("return", text.index("def to_input("))
    end = text.index("\n", start)
    line = text[start:end]
    (project / SCALED).write_text(f"{text[:start]}return ({line.removeprefix('return ')}) * _scale(){text[end:]}")


def reproduce(project: Path, status: int, *words: str) -> dict[str, Any]:
    (run,) = project.glob("models/debug-fast-cnn*-????????")
    printed = call(project, "samebits", "reproduce", str(run), "--json", "--no-file", *words, status=status)
    return dict(json.loads(printed))


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_a_file_that_workers_read(project: Path, start: str) -> None:
    """It is seen, however they are started."""
    (project / "notes/scale.txt").write_text("1")
    code = """
        import torch.utils.data
        return float(open("notes/scale.txt").read()) if torch.utils.data.get_worker_info() else 1
    """
    scaled(project, code)
    options = '"num_workers": num_workers'
    edit(f"src/{NAME}/data/datamodule.py", options, f'{options}, "multiprocessing_context": "{start}"')(project)
    record = train(project, "data.module.num_workers=1", "trainer.num_sanity_val_steps=0")
    assert record["inputs"]["outside"] == {"notes/scale.txt": sha256(project / "notes/scale.txt")}


def test_a_changed_file_is_named(project: Path) -> None:
    """By the verdict, also where it is missing; and then nothing is trained already."""
    (project / "notes/scale.txt").write_text("1")
    scaled(project, 'return float(open("notes/scale.txt").read())')
    train(project)
    assert "trained already" in call(project, f"{NAME}.train", *SHORT)
    assert reproduce(project, 0)["inputs"] == []
    (project / "notes/scale.txt").write_text("2")
    found = reproduce(project, 1)
    assert found["verdict"] == "DIFFERENT INPUTS"
    assert [row[0] for row in found["inputs"]] == ["file outside of the data notes/scale.txt"]
    assert "trained already" not in call(project, f"{NAME}.train", *SHORT)
    assert len([*project.glob("models/debug-fast-cnn*-2")]) == 1
    (project / "notes/scale.txt").unlink()
    found = reproduce(project, 1)
    assert found["verdict"] == "DIFFERENT INPUTS" and found["inputs"][0][2] == "—"


def test_variables_addresses_and_folders_are_causes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address comes first; then what the code asked for and got otherwise."""
    monkeypatch.setenv("SCALE", "1")
    code = """
        import os, socket, subprocess
        if not hasattr(os, "asked"):
            os.asked = True
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
            os.listdir("notes/folder")
        return float(os.environ["SCALE"])
    """
    scaled(project, code)
    train(project)
    asked = "the training asked 192.0.2.1:9, whose answers are not recorded"
    found = reproduce(project, 0)
    assert found["verdict"] == "IDENTICAL" and found["remarks"][0] == asked and found["environment"] == []
    monkeypatch.setenv("SCALE", "2")
    (project / "notes/folder/c").write_text("c")
    found = reproduce(project, 1)
    assert found["verdict"] == "ENVIRONMENT"
    assert found["causes"] == [
        asked,
        "the environment variable SCALE, which the code asks for, is not as it was recorded",
        "the folder notes/folder holds other files than it was recorded with",
    ]


def test_what_was_seen_before_a_kill_is_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by SIGKILL, right after the file was opened."""
    code = """
        if os.environ.get("FIRST"):
            np.load("notes/array.npy"), os.kill(os.getpid(), 9)
        open("notes/low.bin").read()
    """
    write(f"src/{NAME}/touches.py", body(textwrap.dedent(code)))(project)
    monkeypatch.setenv("FIRST", "1")
    call(project, f"{NAME}.train", *SHORT, WATCH, status=-signal.SIGKILL)
    monkeypatch.delenv("FIRST")
    record = train(project, WATCH)
    assert set(record["inputs"]["outside"]) == {"notes/array.npy", "notes/low.bin"}
    assert not [*project.glob(f"models/*/{access_log.FOLDER}")]


def test_files_that_settings_name_are_inputs(project: Path) -> None:
    """They are part of the run's name; a change is named, with the setting. Others are not."""
    settings = ('+model.note="notes/by path.txt"', "+model.folder=notes/model", "+model.none=notes/none.txt")
    root = f'paths.root="{project}"'
    (project / "notes/model").mkdir()
    (project / "notes/model/config.json").write_text("{}")
    one = inputs.collect(compose([root, *settings]))
    assert set(one["files"]) == {"model.note=notes/by path.txt", "model.folder=notes/model/config.json"}
    assert "files" not in inputs.collect(compose([root]))
    (project / "notes/by path.txt").write_text("other")
    other = inputs.collect(compose([root, *settings]))
    assert inputs.inputs_id(one) != inputs.inputs_id(other)
    difference = module("samebits.verify.provenance_diff").input_differences
    assert [row[0] for row in difference(one, other)] == ["file of the setting model.note=notes/by path.txt"]


def test_a_changed_named_file_is_other_inputs(project: Path) -> None:
    """It is said before anything is trained; read by the training, it is no outside input."""
    code = body("open(self.path).read()").replace(
        "def on_train", "def __init__(self, path): self.path = path\n    def on_train"
    )
    write(f"src/{NAME}/touches.py", code)(project)
    record = train(project, WATCH, "+callbacks.touches.path=notes/low.bin")
    assert record["inputs"]["outside"] == {} and set(record["inputs"]["files"]) == {
        "callbacks.touches.path=notes/low.bin"
    }
    (project / "notes/low.bin").write_text("other")
    found = reproduce(project, 1)
    assert found["verdict"] == "DIFFERENT INPUTS" and found["comparison"] is None
    assert [row[0] for row in found["inputs"]] == ["file of the setting callbacks.touches.path=notes/low.bin"]


def test_the_folder_that_is_read_is_hashed(project: Path) -> None:
    """The same bytes elsewhere are the same run; other bytes are another, and so are those behind a link."""
    root = f'paths.root="{project}"'
    elsewhere = project.parent / "else where"
    shutil.copytree(project / "data/processed", elsewhere)
    there = f'data.module.directory="{elsewhere}"'
    first = inputs.inputs_id(inputs.collect(compose([root])))
    assert inputs.inputs_id(inputs.collect(compose([root, there]))) == first
    (elsewhere / "train_labels.npy").write_bytes((elsewhere / "train_labels.npy").read_bytes()[:-1] + b"\1")
    assert inputs.inputs_id(inputs.collect(compose([root, there]))) != first
    (project / "data/processed/more").symlink_to(project / "notes/folder")
    assert {"more/a", "more/b"} <= set(inputs.collect(compose([root]))["data"])
    (elsewhere / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"else where/dataset\.json is missing"):
        inputs.require_prepared(compose([root, there]))


def test_names_tell_of_no_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths begin in the project, at `~` or at `/`, and hold no user's name."""
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setenv("USER", "alice")
    names = ["/data/x.csv", "/home/alice/w/x.pt", "/home/bob/x.pt", "/scratch/alice/x.pt", str(tmp_path / "notes/x")]
    found = [files.portable_name(Path(name), tmp_path) for name in names]
    assert found == ["/data/x.csv", "~/w/x.pt", ".../x.pt", ".../x.pt", "notes/x"]
    assert records.RunDirectory(tmp_path, {}).outdated(tmp_path) == []
    assert module("samebits.engine.files").present_sha256(tmp_path, ["~/w/x.pt", "/data/x.csv"]) == {}


def test_the_hook_is_cheap(tmp_path: Path) -> None:
    """A file of the data costs a few microseconds more to open, at most."""
    (tmp_path / "data").mkdir()
    file = str(tmp_path / "data/x")
    Path(file).write_text("x")
    code = f"""
        import os, sys, time
        from pathlib import Path
        from samebits.engine import access_log
        def seconds():
            begin = time.perf_counter()
            for _ in range(10000): os.close(os.open({file!r}, os.O_RDONLY))
            return time.perf_counter() - begin
        before = min(seconds() for _ in range(5))
        root = Path({str(tmp_path)!r})
        access_log.start(root, [root / "run"], [root / "data"], root / "run/accesses")
        print((min(seconds() for _ in range(5)) - before) / 10000 * 1e6)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 5, done.stdout
