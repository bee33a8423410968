"""Whether the prepared data are what the code here makes of the raw ones, by dvc.yaml and dvc.lock; DVC is not called.

dvc.lock holds an MD5 of all that a stage read and wrote when it was last run. A file that has another one since is
compared with its former text: a comment, or a module that the stage does not import, makes no other data. Rows of
differences are called `stage <name> <what has changed>`.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..engine.code_closure import code_closure, targets
from ..engine.config import compose
from ..engine.errors import UserError
from ..engine.files import JUNK, file_sha256, opened
from ..engine.inputs import data_folder, data_settings
from ..engine.project import project
from ..engine.record import Record, settings_of
from ..engine.untrusted import LOADER
from .provenance_diff import NOTHING, Difference, differing

LOCK, PIPELINE = "dvc.lock", "dvc.yaml"
Stage = dict[str, Any]  # as in dvc.lock
OF_TRAINING = ("module", "card", "folds")  # settings of the data that preparing them does not read


def read_stages(path: Path) -> dict[str, Stage]:
    """Read the stages of dvc.yaml or dvc.lock; none where there is no such file, a UserError where it is damaged."""
    if not os.path.lexists(path):
        return {}
    try:
        with opened(path) as file:
            stages = ((yaml.load(file, LOADER) or {}).get("stages") or {}).items()
        return {name: stage for name, stage in stages if isinstance(stage, dict)}
    except (OSError, yaml.YAMLError, ValueError, AttributeError) as error:
        reason = "it holds no stages" if isinstance(error, AttributeError) else " ".join(str(error).split())
        mend = "or delete it, and `make train` makes it anew" if path.name == LOCK else "or take the template's again"
        raise UserError(f"{path} is damaged ({reason}): restore it (git checkout -- {path.name}), {mend}.") from None


def read_pipeline(path: Path, items: Iterable[str]) -> dict[str, Stage]:
    """Read dvc.yaml in the form of dvc.lock, without MD5; a stage that has a `foreach` is `<name>@<item>` for each."""
    found: dict[str, Stage] = {}
    for name, described in read_stages(path).items():
        for item in items if "foreach" in described else [""]:
            stage = json.loads(json.dumps(described.get("do", described), default=str).replace("${item}", item))
            for key in ("deps", "outs"):
                paths = [each if isinstance(each, str) else next(iter(each)) for each in stage.get(key) or []]
                stage[key] = [{"path": path} for path in paths]
            found[f"{name}@{item}" if item else name] = stage
    return found


def md5_of(stage: Stage, key: str) -> dict[str, str]:
    """List the MD5 of what a stage read (`deps`) or wrote (`outs`), by path."""
    return {each["path"]: each.get("md5", NOTHING) for each in stage.get(key) or []}


def stages_of(lock: dict[str, Stage], target: str) -> dict[str, Stage]:
    """Choose the stages of dvc.lock that made a folder, and those that made what they read, the last one first."""
    outs = {name: md5_of(stage, "outs") for name, stage in lock.items()}
    found = {
        name: lock[name] for name in lock if any(_is_in(target, [out]) or _is_in(out, [target]) for out in outs[name])
    }
    rest = {name: stage for name, stage in lock.items() if name not in found}
    for path in [path for stage in found.values() for path in md5_of(stage, "deps")]:
        found |= stages_of(rest, path)
    return found


def _is_in(path: str, folders: Iterable[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def dvc_md5(path: Path, without: Iterable[str] = ()) -> str:
    """Hash a file or a folder, without files of some names, as DVC does; NOTHING where there is none."""
    if not path.exists():
        return NOTHING
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    listed = [{"md5": dvc_md5(path / name), "relpath": name} for name in sorted(_files(path, without))]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _files(folder: Path, without: Iterable[str] = ()) -> set[str]:
    """List the files in a folder by their paths from there, without those whose names are in .dvcignore."""
    path = project().root / ".dvcignore"
    lines = [*without, *(path.read_text(encoding="utf-8").splitlines() if path.exists() else [])]
    ignored = re.compile(
        "|".join(fnmatch.translate(line.strip("/ ")) for line in lines if line[:1] not in "#!") or "$^"
    )
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {name.as_posix() for name in names if not any(map(ignored.match, name.parts))}


def meaning(path: Path) -> str | bytes | None:
    """Read what a file says: Python without layout, comments and docstrings, others byte for byte; None without one."""
    content = path.read_bytes() if path.is_file() else None
    if content is None or path.suffix != ".py":
        return content
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return content
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


@dataclass(frozen=True)
class DataStages:
    """The stages that made the data of a run, and the code that they are held against."""

    record: Record
    cfg: DictConfig  # the run's settings, with the paths of the project whose data is read
    root: Path  # of that project
    tree: Path  # the folder of the code that trains
    before: Path | None  # that of the recorded code; where that trains, `root`; None where it is lost

    @cached_property
    def target(self) -> str:
        """The folder of the prepared data, from the project's; empty where it is outside, or there is no pipeline."""
        processed = data_folder(self.cfg)
        inside = not project().adopted and processed.is_relative_to(self.root)
        return processed.relative_to(self.root).as_posix() if inside else ""

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Those of dvc.lock; recorded code has a lock of its own, which counts if it is that of these data.

        What no lock has, as a data set that was prepared without DVC, is made as dvc.yaml says, since who knows when.
        """
        found: dict[str, Stage] = {}
        for tree in (self.tree, self.root) if self.target else ():
            listed = stages_of(read_stages(tree / LOCK), self.target)
            # DVC keeps there what dvc.yaml has no longer, as the stages of a former name
            found = {name: listed[name] for name in listed if name in self.pipeline} or listed
            if found and not self._exchanged(found):
                break
        return found or (stages_of(self.pipeline, self.target) if self.target else {})

    @cached_property
    def pipeline(self) -> dict[str, Stage]:
        """The stages of dvc.yaml, for the run's data set and for whatever else was made."""
        names = [*read_stages(self.tree / LOCK), *read_stages(self.root / LOCK), f"@{self.cfg.data.name}"]
        return read_pipeline(self.tree / PIPELINE, sorted({name.partition("@")[2] for name in names} - {""}))

    def outdated(self) -> list[Difference]:
        """List what has changed since the data, which are those of the run, were made; nothing where no lock knows."""
        found = self._exchanged(self.stages)
        for name, stage in self.stages.items():
            deps = {path: md5 for path, md5 in md5_of(stage, "deps").items() if md5 != NOTHING}
            changed = self._changed_files(name, stage)
            if self.before == self.root:  # of imported files that no lock names, recorded code has those of the record
                changed = {path: row for path, row in changed.items() if _is_in(path, deps)}
            for path, md5 in deps.items():
                here = self.tree / path if (self.tree / path).exists() else self.root / path
                if not here.exists() or self._is_compared_otherwise(path):
                    continue
                if (now := dvc_md5(here)) == md5:  # the stage was run with it
                    changed = {each: row for each, row in changed.items() if not _is_in(each, [path])}
                elif self.before is None or dvc_md5(self.before / path) != md5:  # its former text is not at hand
                    changed[path] = (f"stage {name} {path}", md5[:12], now[:12])
            found += changed.values()
            command, before = str(self.pipeline.get(name, {}).get("cmd", NOTHING)), str(stage.get("cmd"))
            found += [(f"stage {name} cmd", before, command)] if command != before and "$" not in command else []
        return found + self._settings()

    def why(self, data: list[Difference], made_now: bool = False) -> tuple[list[Difference], list[str]]:
        """Explain that the data are not those of the record: what makes them, in place of each file; and a sentence.

        Those that were `made_now`, by the code here, are not what dvc.lock knows.
        """
        if not made_now and self._exchanged(self.stages):
            return data, [f"the files in {self.target} are not those that its stage has made, as dvc.lock knows"]
        files = [row for name, stage in self.stages.items() for row in self._changed_files(name, stage).values()]
        if not (changed := files + self._settings()):
            return data, []
        raw = [row for row in data if row[0].startswith("data raw/")]
        made = [(f"data {len(data) - len(raw)} files in {self.target}", "as recorded", "made anew since")]
        what = ", ".join(name.split(" ", 2)[2] for name, *_ in changed[:3])
        return [*changed, *raw, *made], [f"{what} changed since the run was trained, and the data are made by it"]

    def _exchanged(self, stages: dict[str, Stage]) -> list[Difference]:
        """Compare the prepared data with what their stage wrote."""
        for name, stage in stages.items():
            if (before := md5_of(stage, "outs").get(self.target, NOTHING)) not in (NOTHING, *self._data):
                return [(f"stage {name} {self.target}", before[:12], self._data[0][:12])]
        return []

    @cached_property
    def _data(self) -> tuple[str, str]:
        """With and without what systems leave there, as .dvcignore may not list it."""
        return dvc_md5(self.root / self.target), dvc_md5(self.root / self.target, JUNK)

    def _changed_files(self, name: str, stage: Stage) -> dict[str, Difference]:
        """List the files that a stage uses and that mean something else than before."""
        if self.before is None:
            return {}
        found = {}
        for path in sorted(self._used(stage, self.before) | self._used(stage, self.tree)):
            sides = self.before / path, self.tree / path
            if meaning(sides[0]) != meaning(sides[1]):
                mine, theirs = (file_sha256(each)[:12] if each.is_file() else NOTHING for each in sides)
                found[path] = (f"stage {name} {path}", mine, theirs)
        return found

    def _used(self, stage: Stage, tree: Path) -> set[str]:
        """List the files of a tree that a stage uses: the modules that it imports, and what else it depends on.

        Which modules, is known where its command is `python -m <module of the project> ...`, and nothing else.
        """
        called = re.fullmatch(rf"python3? -m ({project().name}\.[\w.]+)( [^;&|]*)?", str(stage.get("cmd")))
        starts = {called[1], *targets(_prepared_by(self.cfg))} if called else set()
        modules = code_closure(replace(project(), root=tree).source, starts)
        found = {path.relative_to(tree).as_posix() for path in modules}
        for dep in md5_of(stage, "deps"):
            if self.before and (self.before / dep).exists() and not self._is_compared_otherwise(dep):
                files = {f"{dep}/{each}" for each in _files(tree / dep)} or {dep}
                found |= {each for each in files if not modules or not each.endswith(".py")}
        return found

    def _is_compared_otherwise(self, path: str) -> bool:
        """Whether a path is that of data's settings, whose values count, or of raw data, whose sha256 these pin."""
        pinned = bool(self.record["inputs"].get("origin", {}).get("files"))
        settings = [f"{project().configs_in}/data"]
        return _is_in(path, settings) or (pinned and self.root / path == Path(self.cfg.paths.raw))

    def _settings(self) -> list[Difference]:
        """Compare the settings by which the data were made with those that configs/ has for this data set today."""
        words, name = settings_of(self.record), next(iter(self.stages), None)
        if name is None or self.tree != self.root:
            return []
        read = data_settings if words is None else _prepared_by  # what other words there were is not known then
        chosen = f"data={self.cfg.data.name}"  # configs/train.yaml may choose another one by now
        try:
            today = compose([*(word for word in words or [] if not word.startswith("data=")), chosen])
            sides = read(self.cfg), read(today)
        except (HydraException, OmegaConfBaseException, UserError, AttributeError, yaml.YAMLError) as error:
            if self.before and not self._says_otherwise(self.before):
                return []  # what the training has besides cannot be composed
            return [(f"stage {name} configs/data", "as recorded", f"cannot be read ({' '.join(str(error).split())})")]
        return [(f"stage {name} data.{key}", mine, theirs) for key, mine, theirs in differing(*sides)]

    def _says_otherwise(self, before: Path) -> bool:
        """Whether a file of configs/ that speaks of data is another one than it was."""
        trees = before / project().configs_in, self.tree / project().configs_in
        names = {path.relative_to(tree) for tree in trees for path in tree.rglob("*.yaml")}
        sides = ([(tree / name).read_bytes() if (tree / name).is_file() else b"" for tree in trees] for name in names)
        return any(b"data" in one + other for one, other in sides if one != other)


def _prepared_by(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the settings of the data that preparing them may read; a file is known by its name and its sha256."""
    kept = cfg.copy()
    OmegaConf.set_struct(kept, False)
    for key in OF_TRAINING:
        kept.data.pop(key, None)
    settings: Any = OmegaConf.to_container(kept.data, resolve=True)
    return settings | data_settings(cfg)


def made_otherwise(outdated: list[Difference]) -> list[str]:
    """Say in a sentence that the prepared data may not be what is made here; nothing where nothing is outdated."""
    named = [f"{what} (stage {stage})" for _, stage, what in (name.split(" ", 2) for name, *_ in outdated)]
    return [f"{', '.join(named[:3])}{', ...' if named[3:] else ''} changed since the data were made"] if named else []


def explain_failure() -> None:
    """Say in a sentence why DVC did not run the pipeline, where its files or another process are the reason."""
    root = project().root
    for name in (PIPELINE, LOCK):
        read_stages(root / name)
    rwlock = root / ".dvc/tmp/rwlock"
    for pid in re.findall(r'"pid": *(\d+)', rwlock.read_text(encoding="utf-8") if rwlock.is_file() else ""):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(int(pid), 0)
            raise UserError(
                f"process {pid} works on this pipeline: wait until it has ended, or stop it, then try again."
            )


if __name__ == "__main__":  # the Makefile asks, where DVC has failed
    from ..engine.command_line import one_sentence

    with one_sentence():
        explain_failure()
