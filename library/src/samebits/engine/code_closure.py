"""The code that a training can import: what `train.py` and the `_target_`s of its settings lead to, found by reading.

Nothing is run. Imports within functions count as those at the top do; what a program imports by a name that it makes up
is found only when the training has loaded it (`loaded_code.outside_files`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

LIBRARY = "samebits"  # where a project holds the library's own source, its contract counts instead
DYNAMIC = ("import_module", "__import__")


def targets(settings: Any) -> set[str]:
    """List the `_target_`s in nested settings."""
    if isinstance(settings, dict):
        own = {settings["_target_"]} if isinstance(settings.get("_target_"), str) else set()
        return own.union(*map(targets, settings.values()))
    return set().union(*map(targets, settings)) if isinstance(settings, list) else set()


def code_closure(source: Path, starts: Iterable[str]) -> list[Path]:
    """List the files that modules lead to by their imports, in the order of their names.

    Args:
        source: the folder that the project's packages lie in; what is not found there is not the project's.
        starts: names of modules, or of what is in them, `package.models.network.CNN`.
    """
    waiting = [path for name in starts for path in _files(source, name)]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [each for name in _imports(path, source) for each in _files(source, name)]
    return sorted(found)


def _files(source: Path, name: str) -> Iterator[Path]:
    """List the files of a dotted name: of the packages on the way, and of the module; the rest is inside of it."""
    folder = source
    for part in name.split("."):
        if folder == source and part == LIBRARY:
            return
        module, folder = folder / f"{part}.py", folder / part
        if module.is_file():
            yield module
            return
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"
        elif not folder.is_dir():
            return


def _imports(path: Path, source: Path) -> Iterator[str]:
    """List the names that a file imports; one that is no Python has none."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    package = path.parent.relative_to(source).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in DYNAMIC and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value
