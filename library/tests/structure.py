"""The structure of the library, counted and checked: `python tests/structure.py` prints it.

Rules: the library imports no project; `engine/` imports nothing of the other folders; what a training loads lies in
`engine/`, `run.py` and `__init__.py`; no circle of imports, also not by imports within functions.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1] / "src" / "samebits"
MOST_FILES, MOST_LINES, LONGEST = 102, 21_227, 400  # raised only together with what users can do, never for less
OF_A_TRAINING = ("engine", "run", "configs", "")  # folders and modules; "" is __init__.py
Graph = dict[str, set[str]]


def python_files(folder: Path) -> list[Path]:
    """List the Python files of a folder."""
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def lines(path: Path) -> int:
    """Count the lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def imports(path: Path, package: str) -> Iterator[str]:
    """List the dotted names that a file imports, relative ones resolved; those for type checkers alone are passed over.

    Args:
        path: of the file.
        package: the dotted name of the package that it lies in.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(each)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for each in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def graph(folder: Path) -> Graph:
    """Draw which modules of a package import which, by their names within it; a package's `__init__` is its name."""
    names = {}
    for path in python_files(folder):
        parts = path.relative_to(folder).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found: Graph = {}
    for name, path in names.items():
        inside = path.parent.relative_to(folder).parts
        package = ".".join([folder.name, *inside])
        found[name] = set()
        for imported in imports(path, package):
            top, _, rest = imported.partition(".")
            if top != folder.name:
                continue
            while rest and rest not in names:
                rest = rest.rpartition(".")[0]
            if rest != name:
                found[name].add(rest)
    return found


def circle(found: Graph) -> list[str]:
    """Find modules that import each other in a circle; an empty list where there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(found[name]):
            if again := walk(other, [*way, name]):
                return again
        done.add(name)
        return []

    return next(filter(None, (walk(name, []) for name in sorted(found))), [])


def upward(found: Graph) -> list[str]:
    """List the imports by which the engine, or another folder, reaches for what stands above it."""
    wrong = []
    for name, imported in found.items():
        folder = name.partition(".")[0]
        for other in imported:
            target = other.partition(".")[0]
            if folder == "engine" and target != "engine":
                wrong.append(f"{name} imports {other}")
            elif folder not in ("cli", "__main__") and target == "cli":
                wrong.append(f"{name} imports {other}, which is a command line's")
    return sorted(wrong)


def foreign(
    folder: Path, projects: frozenset[str] = frozenset({"dummy", "handwritten_digits", "src", "tests"})
) -> list[str]:
    """List the imports of a project in the library."""
    return [
        f"{path.relative_to(folder)} imports {name}"
        for path in python_files(folder)
        for name in imports(path, ".".join([folder.name, *path.parent.relative_to(folder).parts]))
        if name.partition(".")[0] in projects
    ]


def not_of_a_training(modules: list[str]) -> list[str]:
    """List the modules of the library that a training should not load, of those that it did."""
    return [name for name in modules if name.partition(".")[2].partition(".")[0] not in OF_A_TRAINING]


def report(folder: Path = LIBRARY) -> list[str]:
    """Count, and say what is not as it should be, one line each."""
    files = python_files(folder)
    found = graph(folder)
    total, longest = sum(map(lines, files)), max(files, key=lines)
    print(f"library   {len(files):3} files of at most {MOST_FILES}, {total:6,} lines of at most {MOST_LINES:,}")
    print(f"          longest {longest.relative_to(folder)}, {lines(longest)} lines of at most {LONGEST}")
    print(f"          {sum(map(len, found.values()))} imports between modules")
    wrong = [f"imports in a circle: {' -> '.join(circle(found))}"] if circle(found) else []
    wrong += upward(found) + foreign(folder)
    wrong += [f"{path.relative_to(folder)} has {lines(path)} lines" for path in files if lines(path) > LONGEST]
    wrong += [f"{len(files)} files"] if len(files) > MOST_FILES else []
    wrong += [f"{total:,} lines"] if total > MOST_LINES else []
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(report()) or 0)
