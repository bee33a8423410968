"""What a training had loaded is known by content: of packages, Python, shared objects and what lies elsewhere."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .project import LIBRARY, ROOT, module

environment_diff = module("samebits.verify.environment_diff")
loaded_code = module("samebits.engine.loaded_code")
Change = Callable[["Place"], object]
LOOK = """
import json, sys
from pathlib import Path
from samebits.engine import loaded_code
from samebits.engine.project import use_project
use_project(Path(sys.argv[1]))
import tiny.metric
exec(sys.argv[2])
found = loaded_code.find_loaded()
print(json.dumps(found.as_record() | {"packages": loaded_code.package_versions(),
                                      "outside": loaded_code.outside_files(found, [])}))
"""
FILES = {"__init__": "", "metric": "def score(x):\n    return x + 1\n", "lazy": "x = 1\n", "more/__init__": "y = 2\n"}


class Place:
    """An environment with a package of its own, `tiny`, beside those that are installed; and folders elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.paths, self.code = folder, list[Path](), ""
        self.variables: dict[str, str] = {}
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
        (self.site,) = folder.glob("env/lib/*/site-packages")
        (self.site / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        self.project = folder / "project"
        self.project.mkdir()
        shutil.copyfile(ROOT / "pyproject.toml", self.project / "pyproject.toml")
        for name, text in FILES.items():
            self.write(f"tiny/{name}.py", text)
        self.write("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Tiny\nVersion: 1.0\n")
        self.list_files()

    def write(self, name: str, text: str, folder: Path | None = None) -> Path:
        path = (folder or self.site) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def list_files(self) -> None:
        """Write the RECORD anew, as an installer does, and as somebody does who hides a change."""
        rows = []
        for path in sorted((self.site / "tiny").rglob("*.py")):
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            rows.append(f"{path.relative_to(self.site)},sha256={digest},{path.stat().st_size}")
        self.write("tiny-1.0.dist-info/RECORD", "\n".join([*rows, "tiny-1.0.dist-info/RECORD,,", ""]))

    def look(self) -> dict[str, Any]:
        """List what a process has loaded that imports the package."""
        left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LD_PRELOAD")
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        paths = {"PYTHONPATH": os.pathsep.join(map(str, [*self.paths, LIBRARY / "src"]))}
        command = [self.folder / "env/bin/python", "-c", LOOK, self.project, self.code]
        done = subprocess.run(command, env=kept | paths | self.variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Place(tmp_path_factory.mktemp("first")).look()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def patch(name: str = "metric", hide: bool = False) -> Change:
    def change(place: Place) -> None:
        place.write(f"tiny/{name}.py", FILES[name].replace("1", "3"))
        if hide:
            place.list_files()

    return change


def replace_bytecode(place: Place, sort: str = "metric") -> None:
    """Give a source that stays the bytecode of another; its date and size are those of the source."""
    source = place.site / f"tiny/{sort}.py"
    cached = Path(importlib.util.cache_from_source(str(source)))
    other = place.write("other.py", FILES[sort].replace("1", "2"), place.folder)
    os.utime(other, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    py_compile.compile(str(other), str(cached), doraise=True)
    place.variables[loaded_code.COMPILE_ALL] = "1"


def shadow(place: Place, *names: str) -> None:
    for name in names or FILES:
        place.write(f"tiny/{name}.py", FILES[name].replace("+ 1", "+ 4"), place.folder / "hacks")
    place.paths.append(place.folder / "hacks")


def shared_object(target: Path) -> Path:
    """Make a shared object: a copy of one that is there, which no compiler has to make."""
    (found,) = (file for file in loaded_code.mapped_objects() if Path(file).name.startswith("libm."))
    return Path(shutil.copyfile(found, target))


def preload(place: Place) -> None:
    place.variables["LD_PRELOAD"] = str(shared_object(place.folder / "rounding.so"))


def pth(place: Place) -> None:
    place.write("hook.pth", "import sys; sys.hooked = True\n")


FAULTS: dict[str, tuple[Change, str, str]] = {
    "a patched file": (patch(), "patched.tiny/metric.py", "tiny/metric.py is not as its package was installed"),
    "a patched file, listed anew": (
        patch(hide=True),
        "loaded.tiny/metric.py",
        "tiny/metric.py differs, though its package has the same version; recorded is ",
    ),
    "a file put into a package": (
        lambda place: [place.write("tiny/extra.py", "z = 1\n"), setattr(place, "code", "import tiny.extra")],
        "patched.tiny/extra.py",
        "tiny/extra.py is not as its package was installed",
    ),
    "another bytecode": (
        replace_bytecode,
        "bytecode.tiny/metric.py",
        "tiny/metric.py has bytecode in its __pycache__ that is not that of its source, and is what runs; not so",
    ),
    "a .pth file that runs code": (pth, "startup.hook.pth", "hook.pth is run by Python at its start"),
    "a sitecustomize among the packages": (
        lambda place: place.write("sitecustomize.py", "import sys\n"),
        "startup.sitecustomize",
        "sitecustomize is run by Python at its start",
    ),
    "a module of no package": (
        lambda place: [place.write("loose.py", "z = 1\n"), setattr(place, "code", "import loose")],
        "loaded.site-packages/loose.py",
        "site-packages/loose.py lies among the packages and belongs to none",
    ),
    "a package imported from elsewhere": (
        shadow,
        "shadows.tiny",
        "tiny is shadowed by .../tiny (4 files, ",
    ),
    "a module of Python's imported from elsewhere": (
        lambda place: [
            place.write("colorsys.py", "", place.folder / "hacks"),
            place.paths.append(place.folder / "hacks"),
            setattr(place, "code", "import colorsys"),
        ],
        "shadows.python's colorsys.py",
        "python's colorsys.py is shadowed by .../colorsys.py (1 files, ",
    ),
    "a shared object loaded first": (preload, "preloaded.rounding.so", "rounding.so is loaded before all other"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_change_of_what_is_loaded_is_named(
    fault: str, place: Place, untouched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = loaded_code.Package("1.0", "", {f"tiny/{name}.py": "" for name in FILES})
    monkeypatch.setattr(loaded_code, "installed", lambda: {"tiny": [package]})  # as it is where verdicts are found
    change, name, sentence = FAULTS[fault]
    change(place)
    here = place.look()
    rows = environment_diff.environment_differences(untouched, here)
    assert rows and rows[0][0] == name and environment_diff.may_change_results(rows), rows
    assert environment_diff.environment_causes(rows)[0].startswith(sentence)
    back = environment_diff.environment_differences(here, untouched)  # a record of the fault, trained without it
    assert back[0][0] == name and environment_diff.environment_causes(back)


def compile_anew(place: Place) -> None:
    place.look()
    shutil.rmtree(place.site / "tiny/__pycache__")
    place.variables[loaded_code.COMPILE_ALL] = "1"
    place.look()


def compile_by_hash(place: Place) -> None:
    py_compile.compile(
        str(place.site / "tiny/metric.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    place.variables |= {loaded_code.COMPILE_ALL: "1"}


def edit_later(place: Place) -> None:
    """Change the source after the package was imported: its bytecode is that of the former source."""
    place.variables[loaded_code.COMPILE_ALL] = "1"
    place.code = "p = Path(tiny.__file__); import os; t = p.read_text(); p.write_text('# later\\n'); p.write_text(t)"


def link(place: Place) -> None:
    """Let the package's files be links, as some installers do."""
    store = place.folder / "store"
    shutil.copytree(place.site / "tiny", store)
    for path in list((place.site / "tiny").rglob("*.py")):
        path.unlink()
        path.symlink_to(store / path.relative_to(place.site / "tiny"))


INNOCENT: dict[str, Change] = {
    "nothing": lambda place: None,
    "a module more": lambda place: setattr(place, "code", "import tiny.lazy, tiny.more, colorsys, decimal"),
    "bytecode made anew": compile_anew,
    "bytecode that is known by its source's hash": compile_by_hash,
    "no bytecode": lambda place: place.variables.update(PYTHONDONTWRITEBYTECODE="1"),
    "other dates": lambda place: [os.utime(path, (1e9, 1e9)) for path in (place.site / "tiny").rglob("*.py")],
    "a patched file that is not loaded": patch("lazy"),
    "links to a store": link,
    "the bytecode in the RECORD": lambda place: (
        (place.site / "tiny-1.0.dist-info/RECORD")
        .open("a")
        .write("tiny/__pycache__/metric.cpython-311.pyc,,\n../../../bin/tiny,sha256=abc,5\n")
    ),
    "a .pth file with a folder": lambda place: place.write("more.pth", f"{place.folder}\n"),
    "a copy of the project elsewhere": lambda place: setattr(
        place, "project", place.project.rename(place.folder / "moved")
    ),
    "a source written anew while it runs": edit_later,
}


@pytest.mark.parametrize("twin", INNOCENT)
def test_the_same_code_is_the_same_wherever_it_lies(twin: str, place: Place, untouched: dict[str, Any]) -> None:
    INNOCENT[twin](place)
    here = place.look()
    assert environment_diff.environment_differences(untouched, here) == [] and here["outside"] == untouched["outside"]
    if twin in ("nothing", "bytecode made anew", "other dates", "links to a store"):
        assert here == untouched


def test_code_from_elsewhere_is_known_by_its_path_from_its_root(place: Place) -> None:
    first, second = place.folder / "one", place.folder / "two"
    for name in ("helpers/__init__.py", "helpers/deep/__init__.py", "plain.py"):
        place.write(name, f"name = {name!r}\n", first)
    by_path = place.write("scripts/plain.py", "", second)
    place.write("inside.py", "", place.project)
    place.paths += [first, place.project]
    place.code = (
        "import helpers.deep, plain, inside, importlib.util as u\n"
        f"s = u.spec_from_file_location('made.up', {str(by_path)!r}); m = u.module_from_spec(s)\n"
        "sys.modules['made.up'] = m; s.loader.exec_module(m)"
    )
    assert list(place.look()["outside"]) == [
        ".../helpers/__init__.py",
        ".../helpers/deep/__init__.py",
        ".../one/plain.py",
        ".../scripts/plain.py",
        "inside.py",
    ]


def test_own_code_is_compared_with_its_bytecode_in_each_training(place: Place) -> None:
    source = place.write("own.py", FILES["metric"], place.project)
    place.paths.append(place.project)
    place.code = "import own"
    assert place.look()["bytecode"] == {}
    other = place.write("other.py", FILES["metric"].replace("1", "2"), place.folder)
    os.utime(other, ns=(source.stat().st_atime_ns, source.stat().st_mtime_ns))
    py_compile.compile(str(other), importlib.util.cache_from_source(str(source)))
    assert list(place.look()["bytecode"]) == ["own.py"]


def test_a_library_that_the_project_loads_is_code_of_it(place: Place) -> None:
    for folder in (place.project, place.folder):
        shared_object(folder / "fast.so")
    place.code = f"import ctypes; [ctypes.CDLL(p + '/fast.so') for p in {[str(place.project), str(place.folder)]}]"
    found = place.look()
    assert list(found["outside"]) == ["fast.so"] and "fast" in found["objects"]


def test_two_sums_name_the_file_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"tiny/{number}.py": hashlib.sha256(bytes([number])).hexdigest() for number in range(200)}
    monkeypatch.setattr(loaded_code, "installed", lambda: {"tiny": [loaded_code.Package("1", "", files)]})
    before = loaded_code.summary(files)
    for number in (0, 7, 199):
        other = files | {f"tiny/{number}.py": hashlib.sha256(b"other").hexdigest()}
        assert loaded_code.changed_file("tiny", before, loaded_code.summary(other)) == f"tiny/{number}.py"
    other = files | {f"tiny/{number}.py": "0" * 64 for number in (3, 4)}
    assert loaded_code.changed_file("tiny", before, loaded_code.summary(other)) is None
    assert loaded_code.changed_file("tiny", before, before) is loaded_code.changed_file("none", before, before) is None


METRIC = "torchmetrics/functional/classification/accuracy.py"


def copy_of_torchmetrics(folder: Path) -> Path:
    """Copy the package, as it is installed, and return the file to be changed."""
    installed = Path(sysconfig.get_path("purelib"))
    for each in installed.glob("torchmetrics*"):
        shutil.copytree(each, folder / each.name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / METRIC


def changed(path: Path) -> str:
    return path.read_text().replace("_safe_divide(tp, tp + fn)", "_safe_divide(tp, tp + tp)")


def patch_metric(place: Place) -> None:
    path = copy_of_torchmetrics(place.site)
    path.write_text(changed(path))
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    (listed,) = place.site.glob("torchmetrics*/RECORD")
    listed.write_text(re.sub(f"{METRIC},sha256=[^,]*", f"{METRIC},sha256={digest}", listed.read_text()))


def replace_metric(place: Place) -> None:
    path = copy_of_torchmetrics(place.site)
    other = place.write("other.py", changed(path), place.folder)
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    py_compile.compile(str(other), importlib.util.cache_from_source(str(path)))


def shadow_metric(place: Place) -> None:
    path = copy_of_torchmetrics(place.folder / "hacks")
    shutil.rmtree(next((place.folder / "hacks").glob("*.dist-info")))
    path.write_text(changed(path))
    place.paths.append(place.folder / "hacks")


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        (patch_metric, [f"{METRIC} differs, though its package"]),
        (replace_metric, [f"{METRIC} has bytecode in its __pycache__"]),
        (shadow_metric, ["torchmetrics is shadowed by .../torchmetrics (", f"{METRIC} differs"]),
    ],
)
def test_a_verdict_names_what_was_loaded(
    change: Change,
    sentences: list[str],
    place: Place,
    trained: Path,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(place)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*map(str, place.paths), os.environ["PYTHONPATH"]]))
    verification = module("samebits.verify.reproduce")
    run = shutil.copytree(trained, tmp_path / "models" / trained.name)
    (tmp_path / "verify").mkdir()
    verifying = verification.Verification(run, verification.Options(), tmp_path / "verify", workspace)
    verifying.python = str(place.folder / "env/bin/python")
    found = verifying.verdict()
    assert found.kind.name == "ENVIRONMENT" and found.inputs == []
    # what differs is a metric alone, which is easily edited
    expected = [*sentences, "that somebody edited the record, all of its parts alike, cannot be excluded"]
    assert all(map(str.startswith, found.causes, expected)) and len(found.causes) == len(expected), found.causes
