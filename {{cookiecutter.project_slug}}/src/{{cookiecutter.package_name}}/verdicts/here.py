"""What the project has here, against what a run's record says: data, code, settings, locked packages."""

from __future__ import annotations

import difflib
import re
import shutil
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..config import PACKAGE, ROOT, compose
from ..errors import UserError
from ..repro import source
from ..repro.hashing import present_sha256
from ..repro.inputs import code_sha256, data_sha256, lock_sha256, settings_that_count
from ..repro.record import Record, settings_of
from . import differences
from .differences import Difference

# What a project consists of besides data and results; copied where Git does not know the state of the code
CODE = (
    *("src", "tests", "configs", "requirements", "notebooks", "references"),
    *("pyproject.toml", ".python-version", "Makefile", "README.md", "LICENSE", "CITATION.cff", "dvc.yaml"),
    *(".gitignore", ".gitattributes", ".pre-commit-config.yaml", ".github", ".gitlab-ci.yml"),
    *("docs", "Dockerfile", "apptainer.def", "compose.yaml", ".dockerignore", ".devcontainer", ".binder"),
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", "models/.gitignore", "reports/.gitignore"),
    *("data/README.md", "data/.gitignore", "data/external/.gitkeep", "data/interim/.gitkeep"),
)
NO_CODE = ("__pycache__", "*.egg-info", ".ipynb_checkpoints", ".*_cache", ".DS_Store")
INSTEAD = "compare with the code here by leaving out CODE= and FRESH="


def named(kind: str, found: list[Difference]) -> list[Difference]:
    """Put a word before each name."""
    return [(f"{kind} {name}", mine, theirs) for name, mine, theirs in found]


def data_differences(record: Record, cfg: DictConfig) -> list[Difference]:
    """Compare the data by hash: what the run read, and the raw files that it was made of where they are here."""
    processed, raw = Path(cfg.paths.processed), Path(cfg.paths.raw)
    found = differences.files(record["inputs"]["data"], data_sha256(processed))
    origin = record["inputs"].get("origin", {}).get("files", [])
    pinned = {each["name"]: each["sha256"] for each in origin}
    if raw.is_dir():  # without it, as in a clone that fetched only what training reads, there is nothing to compare
        changed = differences.files(pinned, present_sha256(raw, pinned))
        found = [*((f"raw/{name}", mine, theirs) for name, mine, theirs in changed), *found]
    return named("data", found)


def code_differences(record: Record) -> list[Difference]:
    """Compare the package's code, code from outside of it, and the locks, by hash."""
    inputs = record["inputs"]
    outside = {name: sha256 for name, sha256 in inputs.get("outside", {}).items() if not name.startswith(".../")}
    return [
        *named("code", differences.files(inputs["code"], code_sha256(PACKAGE))),
        *named("code outside of the package", differences.files(outside, present_sha256(ROOT, outside))),
        *named("lock", differences.files(inputs["lock"], lock_sha256(ROOT))),
    ]


def settings_differences(record: Record) -> tuple[list[Difference], list[str] | None]:
    """Compare the settings that the run's command gives today with those of the record.

    Returns:
        The differences, and the words of the command if there are any; else None, for the saved config.yaml says it.
    """
    words = settings_of(record)
    if words is None:
        return [], None
    try:
        here = settings_that_count(compose(words))
    except (HydraException, OmegaConfBaseException, UserError) as error:
        reason = " ".join(str(error).split())
        return [("settings", "as in config.yaml", f"cannot be composed from configs/ any more ({reason})")], None
    found = named("settings", differences.differing(record["inputs"]["config"], here))
    return found, words if found else None


def export(record: Record, run: Path, target: Path, instead: str = INSTEAD) -> bool:
    """Write the recorded state of the code to a folder.

    Args:
        record: of the run.
        run: its directory.
        target: the folder; made if missing.
        instead: what the user can do where the state is lost.

    Returns:
        Whether Git had it; else it is a copy of the code here, which is the recorded one.

    Raises:
        UserError: it is not in this repository, and the code here is another one.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        source.export(ROOT, record["source"], run, target)
        return True
    except source.NoGit as reason:
        if code_differences(record):
            commit = record["source"].get("commit")
            where = f"(commit {commit[:12]}) is not in this repository" if commit else "was kept nowhere"
            fetch = "fetch it (git fetch origin '+refs/runs/*:refs/runs/*'), or " if commit else ""
            raise UserError(
                f"the recorded code {where} ({reason}), and the code here is another one: {fetch}{instead}."
            ) from None
        for name in CODE:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns(*NO_CODE))
            elif (ROOT / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target / name)
        return False


def code_diff(changed: list[Difference], one: Path, other: Path = ROOT) -> str:
    """Show how the changed files of the package, and outside of it, differ between two trees, by default to here."""
    lines: list[str] = []
    for name, *_ in changed:
        kind, _, path = name.rpartition(" ")
        folder = PACKAGE.relative_to(ROOT) if kind == "code" else Path()
        if kind == "lock" or name.startswith("settings"):
            continue
        before, after = (_lines(tree / folder / path) for tree in (one, other))
        where = (folder / path).as_posix()
        lines += difflib.unified_diff(before, after, f"before/{where}", f"after/{where}", lineterm="", n=1)
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def environment_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """List how two environments differ, the most telling first; packages that only one of them has make one line."""
    telling = ("patched", "startup", "packages", "threads", "flags", "processor.model", "gpu", "variables", "libraries")
    found = [each for each in differences.differing(one, other) if "{}" not in each and not _only_one_has(each)]
    found = [(name, *map(_digits, values)) for name, *values in found]  # type: ignore[misc]
    a, b = (side.get("packages", {}).keys() for side in (one, other))
    if a != b:
        found.append(("packages that only one has", _short(sorted(a - b)), _short(sorted(b - a))))
    return sorted(found, key=lambda each: next((i for i, key in enumerate(telling) if each[0].startswith(key)), 99))


def _only_one_has(each: Difference) -> bool:
    return each[0].startswith("packages.") and differences.NOTHING in each[1:]


def _digits(value: str) -> str:
    return value[:12] if re.fullmatch("[0-9a-f]{64}", value) else value


def _short(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (", ".join(names[:4]) + more) or differences.NOTHING
