"""The project that a command works in: the nearest folder above whose pyproject.toml has a table [tool.samebits]."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .errors import UserError

TABLE = "tool.samebits"


@dataclass(frozen=True)
class Project:
    """A project and where its parts are.

    Attributes:
        root: its folder, which holds pyproject.toml.
        name: of its Python package.
        train_in: the module that is the command to train, where it is not the package's `train`.
        configs_in, config, runs_in: the folder of its configs, the name of the first of them, the folder of its runs.
        data: the folders and files that a training reads; None where repro-template says how they are prepared.
    """

    root: Path
    name: str
    train_in: str = ""
    configs_in: str = "configs"
    config: str = "train"
    runs_in: str = "models"
    data: tuple[str, ...] | None = None

    @property
    def adopted(self) -> bool:
        """Whether it is a project of another shape than the template's, to whose settings adoption.py adds."""
        return self.data is not None

    @property
    def train(self) -> str:
        """The module that is the command to train."""
        return self.train_in or f"{self.name}.train"

    @property
    def paths(self) -> str:
        """The group of settings that says where things are: in an adopted project, `paths` may mean something else."""
        return "samebits" if self.adopted else "paths"

    @property
    def runs(self) -> Path:
        """The folder of the runs."""
        return self.root / self.runs_in

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
        return self.root / self.configs_in

    def commands(self, text: str) -> str:
        """Name in a sentence the commands that there are: without the template's Makefile, these are the library's."""
        if not self.adopted:
            return text
        text = re.sub(r"make train(?: ARGS=(\S+))?", lambda m: f"python -m {self.train} {m[1] or ''}".rstrip(), text)
        text = re.sub(r"\bmake (reproduce|probe|compare|show|bundle)(?: RUN=)?", r"samebits \1 ", text)
        text = re.sub(r"(?<![\w/])models/", f"{self.runs_in}/", text.replace(", as reports/reproduction.md does", ""))
        text = text.replace(" CONFIG=here", " --config here").replace(" SIGN=1", " --sign")
        return text.replace(" OP=1", " --op").replace(" CODE=recorded", " --code recorded")


_chosen: list[Path] = []  # by `use_project`, the last one counts


def use_project(folder: Path) -> None:
    """Work in the project that `folder` belongs to, wherever the command was started."""
    _chosen.append(folder)


def require_own_program() -> None:
    """Refuse a program that lies in another copy of the project than the one whose folder the command was started in.

    Raises:
        UserError: the environment of a folder that was copied leads to the folder that it was copied from.
    """
    try:
        here, program = _find(Path.cwd()), project()
    except UserError:
        return  # it was started from elsewhere
    if here.name == program.name and here.root.resolve() != program.root.resolve():
        mend = f"set PYTHONPATH={here.source}" if here.adopted else "run make setup here, and start it by make"
        raise UserError(
            f"the package {here.name} is imported from {program.root}, so this would work on the data and runs there,"
            f" and not on those of {here.root}: {mend}, or go to the other folder."
        )


def project() -> Project:
    """Find the project: the one of the program that was started, else that of the working directory.

    Raises:
        UserError: there is none, or its table names no package.
    """
    return _find(_chosen[-1] if _chosen else Path.cwd())


def is_adopted() -> bool:
    """Whether there is a project here, and it is an adopted one."""
    try:
        return project().adopted
    except UserError:
        return False


def _optional(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Read what need not be in the table."""
    names = {"train": "train_in", "configs": "configs_in", "config": "config", "runs": "runs_in"}
    found: dict[str, Any] = {names[key]: value for key, value in table.items() if key in names}
    data = table.get("data")
    if wrong := [key for key in table if key not in ("package", "data", *(() if data is None else names))]:
        raise UserError(f"{path} has {wrong[0]} under [{TABLE}], which means nothing there without data: leave it out.")
    if data is not None:
        listed = data if isinstance(data, list) else [data]
        found = {"runs_in": "logs/runs", "data": tuple(map(str, listed))} | found
    for key, value in found.items():
        for each in value if isinstance(value, tuple) else (value,):
            if not isinstance(each, str) or Path(each).is_absolute() or ".." in Path(each).parts:
                raise UserError(
                    f"{path} has {each!r} under [{TABLE}], but must name what is in the project: mend {key}."
                )
    if any(Path(found["runs_in"]).is_relative_to(each) for each in found.get("data", ())):
        raise UserError(f"{path} has the folder of the runs in the data, under [{TABLE}]: mend data, or runs.")
    return found


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
        return Project(root, name, **_optional(path, table))
    raise UserError(
        f"no project was found in {folder} or above it: go to its folder, or write [{TABLE}] into its pyproject.toml"
        ' with package = "<the name of its Python package>".'
    )
