"""One parser for each kind of file that a project holds: a file of an unknown kind is an error, not a pass."""

from __future__ import annotations

import ast
import configparser
import json
import re
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import yaml
from jinja2 import Environment


class Loader(yaml.SafeLoader):
    """YAML with the tags that Compose adds."""


Loader.add_constructor("!reset", lambda loader, node: None)


def parse_yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def parse_toml(path: Path) -> Any:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def parse_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _notebook(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)
            assert not cell.outputs and cell.execution_count is None


def _lock(path: Path) -> None:
    text = path.read_text()
    packages = re.findall(r"^[a-z0-9._-]+(?:\[[a-z,]+\])?==\S+", text, re.MULTILINE)
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert packages and len(blocks) == len(packages), "a line is not a pinned package"
    assert all("--hash=sha256:" in block for block in blocks), "a package has no hash"
    assert "://" not in text, "an address stands in the lock"


def _library(path: Path) -> None:
    """The lock of the library: the one wheel that lies in the project, by its hash."""
    (line,) = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert re.fullmatch(r"\./vendor/samebits-[\d.]+-py3-none-any\.whl --hash=sha256:[0-9a-f]{64}", line)
    assert (path.parents[1] / line.split()[0]).is_file()


def _wheel(path: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        assert wheel.testzip() is None and "samebits/__init__.py" in wheel.namelist()


def _shell(path: Path) -> None:
    subprocess.run(["sh", "-n", str(path)], check=True)


def _make(path: Path) -> None:
    subprocess.run(["make", "--dry-run", "help"], cwd=path.parent, check=True, capture_output=True)


def _dockerfile(path: Path) -> None:
    words = {"ARG", "FROM", "ENV", "LABEL", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    assert {line.split()[0] for line in lines if line.strip() and not line.startswith("#")} <= words


def _apptainer(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    assert [line.split(":")[0] for line in lines[:2]] == ["Bootstrap", "From"]
    sections = [line for line in lines[2:] if not line.startswith(" ")]
    assert sections == ["%arguments", "%files", "%post", "%environment"]


def _html(path: Path) -> None:
    """A Jinja template of the project's own, which cookiecutter leaves as it is."""
    Environment().parse(path.read_text(encoding="utf-8"))


def _ini(path: Path) -> None:
    configparser.ConfigParser(interpolation=None).read_string(path.read_text(encoding="utf-8"))


def _text(path: Path) -> None:
    assert "\x00" not in path.read_text(encoding="utf-8")


PARSERS: dict[str, Callable[[Path], Any]] = {
    ".py": lambda path: ast.parse(path.read_text(encoding="utf-8")),
    ".toml": parse_toml,
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
    ".cff": parse_yaml,
    ".lock": parse_yaml,
    ".json": parse_json,
    ".ipynb": _notebook,
    ".sh": _shell,
    ".txt": _lock,
    "samebits.txt": _library,
    ".whl": _wheel,
    ".md": _text,
    ".html": _html,
    "Makefile": _make,
    "Dockerfile": _dockerfile,
    "apptainer.def": _apptainer,
    "config": _ini,
    **dict.fromkeys(
        (".gitignore", ".gitattributes", ".dockerignore", ".dvcignore", ".gitkeep", ".python-version", "LICENSE"), _text
    ),
    "py.typed": _text,
}


def parse(path: Path) -> None:
    """Parse a file by its name or its suffix; raises whatever its parser raises, KeyError for an unknown kind."""
    parser = PARSERS[path.name if path.name in PARSERS else path.suffix]
    try:
        parser(path)
    except Exception as error:
        raise AssertionError(f"{path} does not parse: {error}") from error
