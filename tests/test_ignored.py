"""What is private by its name, by the library's one list, is kept by Git and Docker out of commits and images."""

from __future__ import annotations

import re
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from .baking import SOURCE, bake
from .structure import LIBRARY

SHOWN = ("src/secrets.py", ".env.example", "docs/credentials.md", "configs/train.yaml", "models/main/record.json")


def library() -> Any:
    """Load the list from the library's source, without what a training needs."""
    spec = spec_from_file_location("private_names", LIBRARY / "src/samebits/engine/secrets.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def private_files() -> list[str]:
    """Make a name of each pattern, at the top and further down."""
    names = [re.sub(r"\[.(.).*?\]", r"\1", name).replace("*", "x") for name in library().NAMES]
    files = [folder + name for folder in ("", "src/deep/", "models/main/") for name in names]
    assert all(map(library().is_private, files)) and not any(map(library().is_private, SHOWN))
    return files


def kept_out(ignored: str, name: str) -> bool:
    """Whether Docker leaves a file out: the last pattern that matches it, or a folder above it, decides."""
    parts, out = name.split("/"), False
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    for line in filter(None, (line for line in ignored.splitlines() if not line.startswith("#"))):
        pieces = re.findall(r"\*\*/|\*|\[.*?\]|[^*\[]+", line.removeprefix("!"))
        known = {"**/": "(?:.*/)?", "*": "[^/]*"}
        pattern = "".join(known.get(piece) or (piece if piece[0] == "[" else re.escape(piece)) for piece in pieces)
        if any(re.fullmatch(pattern, path) for path in above):
            out = not line.startswith("!")
    return out


def not_ignored(project: Path, files: list[str]) -> list[str]:
    words = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    done = subprocess.run(words, cwd=project, input="\0".join(files), capture_output=True, text=True)
    return [name for name in files if name not in done.stdout.split("\0")]


def test_git_ignores_what_is_private(tmp_path: Path) -> None:
    project = bake(tmp_path / "out").project
    # what lies in models/main has a file .gitignore of its own, and is texts that the library wrote
    files = [name for name in private_files() if not name.startswith("models/")]
    assert len(files) > 80 and not_ignored(project, files) == []
    assert not_ignored(project, list(SHOWN)) == list(SHOWN)
    ignore = project / ".gitignore"
    ignore.write_text(ignore.read_text().replace("*.pem\n", ""))
    assert not_ignored(project, files) == ["x.pem", "src/deep/x.pem"]  # the control


def test_docker_gets_nothing_private() -> None:
    text = (SOURCE / ".dockerignore").read_text()
    assert [name for name in private_files() if not kept_out(text, name)] == []
    assert [name for name in SHOWN if kept_out(text, name)] == []
    made = (".venv/lib/code.py", ".cache/a.md", "src/__pycache__/a.pyc", "data/raw/a.md", "models/x/last.ckpt")
    assert [name for name in made if not kept_out(text, name)] == []


@pytest.mark.parametrize("line", ["**/*.pem\n", "models/*\n", "\n.venv"])
def test_control_without_a_line_something_gets_there(line: str) -> None:
    text = (SOURCE / ".dockerignore").read_text()
    assert line in text
    names = [*private_files(), ".venv/lib/code.py", "models/x/last.ckpt"]
    assert [name for name in names if not kept_out(text.replace(line, "\n", 1), name)]
