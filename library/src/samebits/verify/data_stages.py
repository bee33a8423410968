"""Whether the prepared data are what the code here makes of the raw ones: dvc.yaml and dvc.lock know, without DVC.

dvc.lock holds an MD5 of everything that a stage was run with. What has another one since is looked at by its meaning,
where its former text is at hand: a comment, or a file that the stage does not import, makes no other data.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..engine.adoption import without_root
from ..engine.code_closure import code_closure
from ..engine.config import compose
from ..engine.errors import UserError
from ..engine.files import file_sha256
from ..engine.inputs import data_settings
from ..engine.project import project
from ..engine.record import Record, settings_of
from .provenance_diff import LOADER, NOTHING, Difference, differing

LOCK, PIPELINE = "dvc.lock", "dvc.yaml"
IGNORED = ("__pycache__", ".ipynb_checkpoints", "*.egg-info", ".DS_Store", "Thumbs.db", "*.pyc", ".git", ".dvc")
OF_TRAINING = ("module", "card", "folds")  # settings of the data that preparing them does not read


def _read(path: Path) -> dict[str, Any]:
    """Read the stages of dvc.yaml or dvc.lock; none where there is no such file, or it cannot be read."""
    try:
        stages = yaml.load(path.read_bytes(), LOADER).get("stages")
    except (OSError, yaml.YAMLError, AttributeError):
        return {}
    return stages if isinstance(stages, dict) else {}


def _paths(stage: dict[str, Any], key: str) -> dict[str, str]:
    """List what a stage of dvc.lock read or wrote, by path: the MD5; an older DVC changed line ends before it."""
    entries = stage.get(key) or []
    return {each["path"]: each["md5"] for each in entries if each.get("hash") == "md5" and each.get("md5")}


def _within(path: str, folder: str) -> bool:
    return Path(path).is_relative_to(folder)


def stages_of(lock: dict[str, Any], target: str) -> dict[str, dict[str, Any]]:
    """List the stages of dvc.lock that made a path, and those that made what they read, the last one first."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [target]
    while waiting:
        path = waiting.pop(0)
        for name, stage in lock.items():
            outs = _paths(stage, "outs")
            if name not in found and any(_within(path, out) or _within(out, path) for out in outs):
                found[name] = stage
                waiting += _paths(stage, "deps")
    return found


def dvc_md5(path: Path) -> str:
    """Hash a file or a folder as DVC does."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    listed = [{"md5": dvc_md5(each), "relpath": name} for name, each in sorted(_files(path).items())]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def _files(folder: Path) -> dict[str, Path]:
    """List the files in a folder by their paths from there, without those that DVC ignores."""
    named = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    patterns = [*IGNORED, *_ignored(project().root)]
    return {
        name.as_posix(): path
        for name, path in named.items()
        if not any(fnmatch.fnmatch(part, pattern) for part in name.parts for pattern in patterns)
    }


@cache
def _ignored(root: Path) -> list[str]:
    path = root / ".dvcignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.strip().strip("/") for line in lines if line.strip() and not line.startswith(("#", "!"))]


def lock_of(path: Path, tree: Path) -> str | None:
    """Give dvc.lock without the stages that were run with other code than a tree's; None where all were run with it."""
    content = yaml.load(path.read_bytes(), LOADER) if path.exists() else {}

    def fits(stage: dict[str, Any]) -> bool:
        deps = {dep: md5 for dep, md5 in _paths(stage, "deps").items() if _within(dep, "src")}
        return all(dvc_md5(tree / dep) == md5 for dep, md5 in deps.items() if (tree / dep).exists())

    stages = _read(path)
    kept = {name: stage for name, stage in stages.items() if fits(stage)}
    return None if kept == stages else str(yaml.safe_dump(content | {"stages": kept}, sort_keys=False))


def same_meaning(one: Path, other: Path) -> bool:
    """Whether two files say the same: Python but for comments and layout, YAML in any order, others byte for byte."""
    if not (one.is_file() and other.is_file()):
        return False
    texts = one.read_bytes(), other.read_bytes()
    if texts[0] == texts[1]:
        return True
    try:
        if one.suffix == ".py":
            mine, theirs = (ast.dump(ast.parse(text)) for text in texts)
        elif one.suffix in (".yaml", ".yml"):
            mine, theirs = (yaml.load(text, LOADER) for text in texts)
        else:
            return False
    except (SyntaxError, ValueError, yaml.YAMLError):
        return False
    return bool(mine == theirs)


def made_otherwise(outdated: list[Difference]) -> list[str]:
    """Say in a sentence that the prepared data are not what the code here makes; nothing where they are."""
    named = [f"{what} (stage {stage})" for stage, what in (name.split(" ", 2)[1:] for name, *_ in outdated)]
    more = f" and {len(named) - 3} more" if named[3:] else ""
    text = (
        f"data/processed is not known to be what is made here: {', '.join(named[:3])}{more} changed since it was made"
    )
    return [text] if named else []


@dataclass(frozen=True)
class DataStages:
    """The stages that made the data of a run, and where the code is, here and as it was recorded.

    Attributes:
        record: the run's.
        cfg: the run's settings, with the paths of the project whose data is read.
        root: of that project.
        tree: the folder of the code that trains.
        recorded: writes the recorded state of the code to a folder; None where it is not at hand.
    """

    record: Record
    cfg: DictConfig
    root: Path
    tree: Path
    recorded: Callable[[], Path | None]

    @property
    def target(self) -> str:
        """The folder of the prepared data, from the project's; empty where it is outside, or there is no pipeline."""
        processed = Path(self.cfg[project().paths].processed)
        inside = not project().adopted and processed.is_relative_to(self.root)
        return processed.relative_to(self.root).as_posix() if inside else ""

    def outdated(self) -> list[Difference]:
        """List what has changed since the data, which are those of the run, were made; nothing where no lock knows."""
        stages = stages_of(_read(self.root / LOCK), self.target) if self.target else {}
        found: list[Difference] = []
        for name, stage in stages.items():
            outs = _paths(stage, "outs")
            if self.target in outs and (here := dvc_md5(self.root / self.target)) != outs[self.target]:
                found.append((f"stage {name} {self.target}", outs[self.target][:12], here[:12]))
            found += self._dependencies(name, stage, stages) + self._command(name, stage)
        return list(dict.fromkeys(found + self._settings(stages)))

    def changed_since_record(self) -> list[Difference]:
        """List what the stages read that is not as it was recorded: why the data are others."""
        stages = stages_of(_read(self.root / LOCK), self.target) if self.target else {}
        found: list[Difference] = []
        before = self.recorded() if stages else None
        for name, stage in stages.items() if before else ():
            assert before
            for path in _paths(stage, "deps"):
                if not self._is_config(path) and not self._is_made(path, stages) and (before / path).exists():
                    found += self._differing(name, stage, path, before)
            found += self._beyond_dependencies(name, stage, before)
        return list(dict.fromkeys(found + self._settings(stages)))

    def why(self, data: list[Difference]) -> tuple[list[Difference], list[str]]:
        """Name what made other data, where it is not as it was recorded, in place of each file; and say so."""
        changed = self.changed_since_record()
        if not changed:
            return data, []
        raw = [row for row in data if row[0].startswith("data raw/")]
        files = [row[0].partition(" ")[2] for row in data if row not in raw]
        names = ", ".join(files[:3]) + (", ..." if files[3:] else "")
        row = (f"data {len(files)} files in {self.target}", f"made before ({names})", "made since")
        what = ", ".join(name.split(" ", 2)[2] for name, *_ in changed[:3])
        causes = [f"{what} changed since the run was trained, and the data are made by it"]
        return [*changed, *raw, *([row] if files else [])], causes

    def _is_config(self, path: str) -> bool:
        return _within(path, project().configs_in)  # whose values are compared, not their text

    def _is_made(self, path: str, stages: dict[str, Any]) -> bool:
        return any(_within(path, out) for stage in stages.values() for out in _paths(stage, "outs"))

    def _dependencies(self, name: str, stage: dict[str, Any], stages: dict[str, Any]) -> list[Difference]:
        found: list[Difference] = []
        recorded = _paths(stage, "deps")
        declared = _read(self.tree / PIPELINE).get(name, {}).get("deps") or []
        for path in dict.fromkeys(
            [*recorded, *(each for each in declared if isinstance(each, str) and "$" not in each)]
        ):
            place = self.tree / path if (self.tree / path).exists() else self.root / path
            if self._is_config(path) or self._is_pinned(path):
                continue
            if not place.exists():  # what a stage makes need not be here: a clone fetches what training reads
                if not self._is_made(path, stages):
                    found.append((f"stage {name} {path}", recorded.get(path, NOTHING)[:12], NOTHING))
                continue
            here = dvc_md5(place)
            if here == recorded.get(path):
                continue
            former = (tree for tree in self._other_trees() if (tree / path).exists())
            before = next((tree for tree in former if dvc_md5(tree / path) == recorded.get(path)), None)
            if before is None or self._is_made(path, stages):
                found.append((f"stage {name} {path}", recorded.get(path, NOTHING)[:12], here[:12]))
            else:
                found += self._differing(name, stage, path, before)
        return found + self._beyond_dependencies(name, stage, None)

    def _other_trees(self) -> Iterator[Path]:
        if self.tree != self.root:
            yield self.root
        if recorded := self.recorded():
            yield recorded

    def _is_pinned(self, path: str) -> bool:
        """Whether each file of a path is compared by its own sha256 already: the raw data, which the settings pin."""
        raw, origin = self.cfg[project().paths].get("raw"), self.record["inputs"].get("origin", {})
        return bool(raw and origin.get("files")) and self.root / path == Path(raw)

    def _differing(self, name: str, stage: dict[str, Any], path: str, before: Path) -> list[Difference]:
        """List the files of one dependency that mean something else than before; of code, those that are imported."""
        if (before / path).is_file():
            names = {path}
        else:
            names = {f"{path}/{each}" for tree in (before, self.tree) for each in _files(tree / path)}
        imported = self._imported(stage, before) | self._imported(stage, self.tree)
        if imported:
            names = {each for each in names if each in imported or not each.endswith(".py")}
        found: list[Difference] = []
        for each in sorted(names):
            one, other = before / each, self.tree / each
            if not same_meaning(one, other):
                mine, theirs = (file_sha256(side)[:12] if side.is_file() else NOTHING for side in (one, other))
                found.append((f"stage {name} {each}", mine, theirs))
        return found

    def _imported(self, stage: dict[str, Any], tree: Path) -> set[str]:
        """List the project's files that a command imports, where that is `python -m <module of the project>`."""
        source = replace(project(), root=tree).source
        called = re.fullmatch(r"python3? -m ([\w.]+)(?: .*)?", str(stage.get("cmd", "")))
        if called is None or called[1].partition(".")[0] != project().name:
            return set()
        return {path.relative_to(tree).as_posix() for path in code_closure(source, {called[1]})}

    def _beyond_dependencies(self, name: str, stage: dict[str, Any], before: Path | None) -> list[Difference]:
        """Compare the code that a stage imports and that dvc.yaml does not name, with the record or a recorded tree."""
        deps, source = _paths(stage, "deps"), replace(project(), root=self.tree).source
        found: list[Difference] = []
        for path in sorted(self._imported(stage, self.tree)):
            if any(_within(path, dep) for dep in deps):
                continue
            known = self.record["inputs"]["code"].get((self.tree / path).relative_to(source).as_posix())
            here = file_sha256(self.tree / path)
            if known == here or (before := before or self.recorded()) is None:
                continue
            if not same_meaning(before / path, self.tree / path):
                found.append((f"stage {name} {path}", known[:12] if known else NOTHING, here[:12]))
        return found

    def _command(self, name: str, stage: dict[str, Any]) -> list[Difference]:
        declared = _read(self.tree / PIPELINE).get(name, {}).get("cmd", stage.get("cmd"))
        same = declared == stage.get("cmd") or "$" in str(declared)
        return [] if same else [(f"stage {name} cmd", str(stage.get("cmd")), str(declared))]

    def _settings(self, stages: dict[str, Any]) -> list[Difference]:
        """Compare the settings by which the run's data were made with those that configs/ has for them today."""
        name = next((name for name, stage in stages.items() if any(map(self._is_config, _paths(stage, "deps")))), None)
        if name is None or "data" not in self.cfg or self.tree != self.root:
            return []
        words = settings_of(self.record)
        try:
            today = compose(words or [])
            roots = (self.root, project().root)
            sides = [
                _prepared_by(cfg, root) if words is not None else data_settings(cfg)
                for cfg, root in zip((self.cfg, today), roots, strict=True)
            ]
        except (HydraException, OmegaConfBaseException, UserError, AttributeError, yaml.YAMLError) as error:
            return [(f"stage {name} configs/data", "as recorded", f"cannot be read ({' '.join(str(error).split())})")]
        return [(f"stage {name} data.{key}", mine, theirs) for key, mine, theirs in differing(*sides)]


def _prepared_by(cfg: DictConfig, root: Path) -> dict[str, Any]:
    """Resolve the settings of the data, but for those that preparing them does not read."""
    kept = cfg.copy()
    OmegaConf.set_struct(kept, False)
    for key in OF_TRAINING:
        if key in list(kept.data.keys()):
            del kept.data[key]
    return dict(without_root(OmegaConf.to_container(kept.data, resolve=True), root))
