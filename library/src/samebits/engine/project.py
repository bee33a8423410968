"""The project that a command works in: the nearest folder above whose pyproject.toml has a table [tool.samebits]."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import UserError

TABLE = "tool.samebits"


@dataclass(frozen=True)
class Project:
    """A project and where its parts are.

    Attributes:
        root: its folder, which holds pyproject.toml.
        name: of its Python package.
    """

    root: Path
    name: str

    @property
    def package(self) -> Path:
        """The folder of the package: in src/, or in the project's folder itself."""
        return self.source / self.name

    @property
    def source(self) -> Path:
        """The folder that holds the package."""
        return self.root / "src" if (self.root / "src" / self.name).is_dir() else self.root

    @property
    def configs(self) -> Path:
        """The folder of the Hydra configs."""
        return self.root / "configs"


_chosen: list[Path] = []  # by `use_project`, the last one counts


def use_project(folder: Path) -> None:
    """Work in the project that `folder` belongs to, wherever the command was started."""
    _chosen.append(folder)


def project() -> Project:
    """Find the project: the one of the program that was started, else that of the working directory.

    Raises:
        UserError: there is none, or its table names no package.
    """
    return _find(_chosen[-1] if _chosen else Path.cwd())


@cache
def _find(folder: Path) -> Project:
    for root in (folder, *folder.parents):
        path = root / "pyproject.toml"
        if not path.is_file():
            continue
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("samebits")
        except ValueError as error:
            raise UserError(f"{path} is not TOML ({error}): mend that line.") from error
        if table is None:
            continue
        name = table.get("package") if isinstance(table, dict) else None
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f'{path} names no package: write package = "<its name>" under [{TABLE}].')
        return Project(root, name)
    raise UserError(
        f"no project was found in {folder} or above it: go to its folder, or write [{TABLE}] into its pyproject.toml"
        ' with package = "<the name of its Python package>".'
    )
