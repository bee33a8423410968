"""What code names a run: what its training can import, and nothing else; and which release of the library."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

import pytest

from samebits.engine import inputs, loaded_code
from samebits.engine.code_closure import code_closure, targets
from samebits.engine.project import Project

from .project import NAME, ROOT, compose

FILES = {
    "__init__.py": "",
    "train.py": "import samebits\nfrom .models import network\n",
    "models/__init__.py": "",
    "models/network.py": "def build():\n    from ..layers import dense\n    return dense\n",
    "layers.py": "import importlib\nextra = importlib.import_module('package.plugin')\n",
    "plugin.py": "import package.deep.down as d\n",
    "deep/__init__.py": "",
    "deep/down.py": "broken = (",  # no Python: an input all the same
    "target.py": "class Model: ...",
    "predict.py": "from .train import samebits\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(source: Path, *starts: str) -> set[str]:
    return {path.relative_to(source / "package").as_posix() for path in code_closure(source, starts)}


def test_imports_are_followed_wherever_they_stand(source: Path) -> None:
    from_train = set(FILES) - {"target.py", "predict.py"}
    assert names(source, "package.train") == from_train
    assert names(source, "package.train", "package.target.Model") == from_train | {"target.py"}
    assert names(source, "package.target.Model") == {"__init__.py", "target.py"}
    assert names(source, "torch.optim.Adam", "nothing") == set()
    (source / "samebits").mkdir()
    (source / "samebits/__init__.py").write_text("")
    assert names(source, "package.train") == from_train  # the library's own source is not the project's code


def test_targets_are_found_in_any_nesting() -> None:
    settings = {"a": {"_target_": "x.Y", "b": [{"_target_": "z.W"}, 3]}, "c": None, "_target_": 4}
    assert targets(settings) == {"x.Y", "z.W"}


def test_only_what_a_training_imports_names_it(tmp_path: Path) -> None:
    project = Project(Path(shutil.copytree(ROOT, tmp_path / "project")), NAME)
    settings = inputs.settings_that_count(compose())
    before = inputs.code_sha256(settings, project)
    assert f"{NAME}/models/network.py" in before and f"{NAME}/predict.py" not in before
    for name, counts in (("predict.py", False), ("evaluate.py", False), ("data/prepare.py", False)):
        (project.package / name).write_text("# edited\n")
        assert (inputs.code_sha256(settings, project) != before) is counts, name
    for name in ("models/network.py", "data/images.py", "train.py", "models/__init__.py"):
        kept = (project.package / name).read_text()
        (project.package / name).write_text(f"{kept}# edited\n")
        assert inputs.code_sha256(settings, project) != before, name
        (project.package / name).write_text(kept)
    assert inputs.code_sha256(settings, project) == before


def test_code_that_was_loaded_all_the_same_is_recorded() -> None:
    loaded = loaded_code.find_loaded({f"{NAME}.predict": str(ROOT / "src" / NAME / "predict.py")})
    assert list(loaded_code.outside_files(loaded, [f"{NAME}/train.py"])) == [f"src/{NAME}/predict.py"]
    assert loaded_code.outside_files(loaded, [f"{NAME}/predict.py"]) == {}


def release(folder: Path) -> str:
    """List what is in a folder as a wheel's RECORD does."""
    lines = []
    for path in sorted(folder.rglob("*.*")):
        digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).decode().rstrip("=")
        lines.append(f"{path.relative_to(folder.parent).as_posix()},sha256={digest},{path.stat().st_size}\n")
    return "".join(lines)


def test_an_edited_file_of_the_library_is_an_input(tmp_path: Path) -> None:
    library = Path(shutil.copytree(inputs.LIBRARY, tmp_path / "samebits", ignore=shutil.ignore_patterns("__pycache__")))
    copy = library.rename(library.with_name("unreleased"))  # of which nobody knows what was released
    assert "run.py" in inputs.edited_library(copy)
    library = copy.rename(library)
    (library / "RECORD").write_text(release(library))
    assert inputs.edited_library(library) == {}
    for name in ("cli/eject.py", "report/report.py"):  # which no training loads
        (library / name).write_text("# edited\n")
    assert inputs.edited_library(library) == {}
    for name in ("engine/data_loading.py", "run.py", "engine/added.py"):
        (library / name).write_text("# edited\n")
        assert name in inputs.edited_library(library)
    with_edit, without = ({"config": {}, "contract": 1, **more} for more in ({"library": {"run.py": "0"}}, {}))
    assert inputs.inputs_id(with_edit) != inputs.inputs_id(without)
    assert inputs.inputs_id(without | {"contract": 2}) != inputs.inputs_id(without)
