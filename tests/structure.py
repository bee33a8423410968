"""Files and lines of both houses, and the rules of the seams between them: `make structure` prints them."""

from __future__ import annotations

import ast
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from .baking import SOURCE, TEMPLATE

# what: files at most, lines at most
BOUNDS = {"src": (14, 900), "src/*/train.py": (1, 60), "tests": (14, 350), "README.md": (1, 120)}
LIBRARY = TEMPLATE / "library"
EXAMPLE = re.compile(r"\b(cnn|mlp|digits?|8, 8|10 classes)\b")  # words of the example, which one file of tests may use


def count(project: Path, what: str) -> tuple[int, int]:
    """Count the files, and their lines, of a folder's Python or of a single file."""
    found = sorted(project.glob(f"{what}/**/*.py")) or sorted(project.glob(what))
    return len(found), sum(len(path.read_text(encoding="utf-8").splitlines()) for path in found)


def private_names() -> re.Pattern[str]:
    """Return what finds the use of a name of the library that is not public."""
    tree = ast.parse((LIBRARY / "src/samebits/__init__.py").read_text(encoding="utf-8"))
    (names,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    public = "|".join(names)
    return re.compile(rf"samebits\.(?!({public})\b)\w|from samebits")


def report(project: Path = SOURCE) -> list[str]:
    """Count, print, and say what is not as it should be, one line each: of the library, too."""
    spec = spec_from_file_location("structure_of_the_library", LIBRARY / "tests/structure.py")
    assert spec and spec.loader
    library = module_from_spec(spec)
    spec.loader.exec_module(library)
    wrong: list[str] = library.report()
    for what, (files, lines) in BOUNDS.items():
        found = count(project, what)
        print(f"{what:<16}{found[0]:3} files of at most {files}, {found[1]:4} lines of at most {lines}")
        if found[0] > files or found[1] > lines:
            wrong.append(f"{what}: {found[0]} files with {found[1]} lines")
    private = private_names()
    for path in sorted([*project.glob("src/**/*.py"), *project.glob("tests/*.py")]):
        text = path.read_text(encoding="utf-8")
        if use := private.search(text):
            wrong.append(f"{path.name}: uses {use[0]!r}, which is no public name of the library")
        if path.parent.name == "tests" and bool(EXAMPLE.search(text)) != (path.name == "test_digits.py"):
            wrong.append(f"{path.name}: tests/test_digits.py, and it alone, is about the example")
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(report()) or 0)
