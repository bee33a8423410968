"""Re-runs differ in what must not matter, and the lines of the user's code that make them differ are named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .project import FEW, NAME, ROOT, module

SHORT = (*FEW, "snapshot=false")
DATA, MODEL = f"src/{NAME}/data/datamodule.py", f"src/{NAME}/models/classifier.py"
LOSS = "        loss: torch.Tensor = self.loss(self(images), labels)\n"
READ = "        return to_input(self.images[indices]), torch.from_numpy(self.labels[indices])\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, workspace: Path) -> Iterator[Path]:
    """Give a copy of the project, with its data and a folder of files, in which code is planted."""
    project = tmp_path_factory.mktemp("planted") / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns("__pycache__", ".cache"))
    shutil.copytree(workspace / "data", project / "data", dirs_exist_ok=True)
    for name in ("three", "one", "two"):
        (project / "data/external/deep").mkdir(parents=True, exist_ok=True)
        (project / f"data/external/{name}.txt").write_text(str(len(name)))
    yield project


def call(project: Path, *words: str, seed: str | None = None, status: int | None = 0) -> str:
    paths = os.pathsep.join([os.environ["PYTHONPATH"].split(os.pathsep)[0], str(project / "src")])
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"} | {"PYTHONPATH": paths}
    environment |= {"PYTHONHASHSEED": seed} if seed else {}
    done = subprocess.run([sys.executable, "-m", *words], cwd=project, env=environment, capture_output=True, text=True)
    assert status in (None, done.returncode), done.stdout + done.stderr
    return done.stdout


def judge(project: Path, *more: str, seed: str | None = None, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Train, and give the verdict on it."""
    shutil.rmtree(project / "models", ignore_errors=True)
    call(project, f"{NAME}.train", *SHORT, *words, seed=seed)
    return dict(json.loads(call(project, "samebits", "reproduce", "--json", "--no-file", *more, status=None)))


# --- what is observed, without a training

OBSERVER = ROOT.parents[1] / "src/samebits/engine/observer.py"
CODE = """import datetime, multiprocessing, os, random, threading, time, uuid
from pathlib import Path
import numpy as np
asked = getattr(time, "time_ns")

def never():
    return time.time(), uuid.uuid4()

def in_worker():
    return asked()  #! time.time_ns()

class Callback:
    def on_end(self):
        return uuid.uuid4()  #! uuid.uuid4()

rng = np.random.default_rng()  #! draws
seeded = np.random.default_rng(3), random.Random(4)
day = datetime.datetime.now()  #! datetime.datetime.now()
other = random.Random()  #! random.Random()
def timed():
    began = time.perf_counter()
    print(time.perf_counter() - began, time.time() if began < 0 else "")
timed()
Callback().on_end()
thread = threading.Thread(target=lambda: os.urandom(2))  #! os.urandom()
thread.start()
thread.join()
order = list({"a", "b"})  #! set
inside = "a" in {"a", "b"}
worker = multiprocessing.get_context("fork").Process(target=in_worker)
worker.start()
worker.join()
listed = [path.name for path in Path("folder").iterdir()]  #! lists
print(sorted(os.listdir("folder")), next(os.walk("folder"))[2], [each.name for each in os.scandir("folder")])
"""


def observe(folder: Path, seed: str = "1", backwards: bool = True) -> tuple[list[str], str]:
    (folder / "folder").mkdir(exist_ok=True)
    for name in "abc":
        (folder / "folder" / name).touch()
    path = folder / "code.py"
    path.rename(folder / "program.py")
    lint = module("samebits.lint.lint")
    lines = [each.line for each in lint.findings({"program.py": folder / "program.py"})]
    options = {"root": str(folder), "source": str(folder), "backwards": backwards, "notes": str(folder / "notes")}
    words = [sys.executable, str(OBSERVER), json.dumps(options | {"lines": {"program.py": lines}}), "program"]
    environment = os.environ | {"PYTHONHASHSEED": seed}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return (folder / "notes").read_text().splitlines(), done.stdout


def test_what_the_code_does_is_named_and_what_it_does_not_is_not(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(CODE)
    notes, _ = observe(tmp_path)
    repeats, lint = module("samebits.verify.repeats"), module("samebits.lint.lint")
    files = {"program.py": tmp_path / "program.py"}
    found = lint.suspects(files, notes, repeats.CHANCE) + lint.suspects(files, notes, repeats.FOLDERS)
    marked = {n: line.partition("#! ")[2] for n, line in enumerate(CODE.splitlines(), 1) if "#!" in line}
    assert {int(each.partition(":")[2].partition(" ")[0]) for each in found} == marked.keys(), found
    asked = next(number for number, what in marked.items() if what == "time.time_ns()")
    assert f"program.py:{asked} calls time.time_ns()" in found  # in another process, and by another name


def test_folders_are_listed_backwards_and_packages_are_not(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(
        "import glob, os, sysconfig\nfrom pathlib import Path\nf = 'folder'\n"
        "print(os.listdir(f), glob.glob('*', root_dir=f), [p.name for p in Path(f).iterdir()],"
        " [p.name for p in Path(f).rglob('*')], [e.name for e in os.scandir(f)], sep='\\n')\n"
        "print(next(os.walk(f))[2])\nprint(os.listdir(sysconfig.get_path('purelib')))\n"
    )
    notes, said = observe(tmp_path)
    listed = [f"list\tprogram.py:{line} lists a folder" for line in (4, 5, 6)]
    assert [line in notes for line in listed] == [True, True, False]
    *backwards, packages = said.splitlines()
    (tmp_path / "program.py").rename(tmp_path / "code.py")
    _, said = observe(tmp_path, backwards=False)
    *forwards, same = said.splitlines()
    assert len(backwards) == 6 and packages == same
    assert [eval(each)[::-1] for each in backwards] == [eval(each) for each in forwards]


def test_sets_that_are_written_come_in_another_order(tmp_path: Path) -> None:
    repeats = module("samebits.verify.repeats")
    names = "abcdefghijklmnopqrst"
    (tmp_path / "a.py").write_text("\n".join(f"x = {{'{one}', '{one}{one}'}}" for one in names))
    for recorded in (None, "1", "random"):
        found = repeats.Repeats(None, {"augment": ["flip", "shift"]}, sys.executable, recorded, tmp_path / "notes")
        found.files = {"a.py": tmp_path / "a.py"}
        texts = [*repeats._written(found.files.values()), *repeats._listed(found.settings)]
        assert str(found.first.seed) != recorded and len(texts) == 21 and found.first.backwards
        orders = [found._orders(texts, str(seed)) for seed in (found.first.seed, *found.seeds)]
        assert all(len({tuple(each) for each in column}) > 1 for column in zip(*orders, strict=True))


DOUBTED = {
    "'a' in {'a', 'b'}": False,
    "len({'a', 'b'})": False,
    "sorted({'a', 'b'})": False,
    "sum(f(x) for x in {'a', 'b'})": True,
    "dict(zip({'a', 'b'}, (1, 2)))": True,
    "sum(i * len(x) for i, x in enumerate({'a', 'b'}))": True,
    "f({'a', 'b'})": True,
    "{hash(x): x for x in ('a', 'b')}": True,
    "{1, 2}.pop()": False,
}


@pytest.mark.parametrize("text", DOUBTED)
def test_what_may_hang_on_hashes_is_trained_in_other_orders(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"def g(f):\n    return {text}\n")
    assert bool(module("samebits.lint.lint").hash_orders({"a.py": tmp_path / "a.py"})) == DOUBTED[text]


def test_an_attribute_that_is_a_set_is_doubted_where_it_is_more_than_asked(tmp_path: Path) -> None:
    code = "class A:\n    def __init__(self):\n        self.names = {'a', 'b'}\n    def f(self, x):\n        return "
    for use, doubted in (("x in self.names", False), ("[*self.names]", True), ("1", True)):
        (tmp_path / "a.py").write_text(code + use + "\n")
        assert bool(module("samebits.lint.lint").hash_orders({"a.py": tmp_path / "a.py"})) == doubted


def test_a_training_notes_who_asks_for_the_time_of_day(tmp_path: Path) -> None:
    observer, access_log = module("samebits.engine.observer"), module("samebits.engine.access_log")
    code = "import time\nfrom datetime import datetime\ndef f(): return time.time(), time.perf_counter()\n"
    code += "def g(): return time.strftime('%H', time.gmtime(0)), time.localtime()\ndef h(): return datetime.now()\n"
    (tmp_path / "a.py").write_text(code + "def unused(): return time.time_ns()\n")
    space: dict[str, Any] = {}
    exec(compile(code, tmp_path / "a.py", "exec"), space)
    kept = module("time").time
    log = access_log.AccessLog(tmp_path, (), (), tmp_path / "log")
    with observer.watch_clock(str(tmp_path), str(tmp_path), lambda sentence: log.note("clock", sentence)):
        space["f"](), space["g"](), space["h"]()
        if not os.fork():
            exec(compile("\n" * 8 + "import time\ntime.time()\n", tmp_path / "a.py", "exec"), {})
            os._exit(0)
        os.wait()
    lines = [line for file in (tmp_path / "log").iterdir() for line in file.read_text().splitlines()]
    found = sorted(json.loads(line)[1] for line in lines) + observer.find_dates({"a.py": tmp_path / "a.py"})
    says = ["a.py:10 calls time.time()", "a.py:3 calls time.time()", "a.py:4 calls time.localtime()"]
    assert found == [*says, "a.py:5 has datetime.now() in its code"] and module("time").time is kept


# --- verdicts

SET = "        loss = loss * sum(len(f) * (i + 1) for i, f in enumerate({'aa', 'b'}))  #!\n"
FIRST = "        self.shift += int(next(Path('data/external').glob('*.txt')).read_text())  #!\n\n    def __len__"
Planted = tuple[str, str, str, str]  # the file, the original, what takes its place, and what the cause says
FAULTS: dict[str, Planted] = {
    "a set": (MODEL, LOSS, LOSS + SET, "PYTHONHASHSEED"),
    "a folder": (DATA, "\n    def __len__", FIRST, "the order in which a folder is listed"),
    "a date": (
        MODEL,
        LOSS,
        "        import datetime as d\n" + LOSS + "        loss = loss * (1 + d.datetime.now().timestamp() % 7)  #!\n",
        "has d.datetime.now() in its code",
    ),
    "nanoseconds": (
        DATA,
        READ,
        "        import time\n\n" + READ.replace("return ", "return time.time_ns() % 99 + ").replace("\n", "  #!\n"),
        "calls time.time_ns()",
    ),
}
INNOCENT: dict[str, Planted] = {
    "sorted, counted and printed": (
        DATA,
        "\n    def __len__",
        "        import time\n\n        began = time.perf_counter()\n"
        "        names = sorted(Path('data/external').iterdir())\n"
        "        self.shift += len(names) - 4 + ('train' in {'train', 'val'}) - 1\n"
        "        print(time.perf_counter() - began)\n\n    def __len__",
        "",
    ),
}


@pytest.mark.parametrize("name", [*FAULTS, *INNOCENT])
def test_a_planted_fault_is_nondeterministic_by_its_line(project: Path, name: str) -> None:
    for each in (DATA, MODEL):
        shutil.copy(ROOT / each, project / each)
    path, old, new, cause = (FAULTS | INNOCENT)[name]
    content = (ROOT / path).read_text()
    at = content.index(old)
    (project / path).write_text(content[:at] + new + content[at + len(old) :])
    marked = [number for number, line in enumerate((project / path).read_text().splitlines(), 1) if "#!" in line]
    words = ("data.module.num_workers=2",) if name == "nanoseconds" else ()
    said = judge(project, seed="1" if name == "a set" else None, words=words)
    if name in INNOCENT:
        assert (said["verdict"], said["causes"], said["suspects"]) == ("IDENTICAL", [], [])
        return
    assert said["verdict"] == "NONDETERMINISTIC" and cause in said["causes"][0], said["causes"]
    place = f"{path.removeprefix('src/')}:{marked[0]} "
    assert any(each.startswith(place) for each in said["suspects"]), said["suspects"]
    assert place in " ".join(said["causes"])
