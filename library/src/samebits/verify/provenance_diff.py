"""Why a run may come out otherwise here: what differs from its record, and calls that ask for what no record holds.

Compared are data, code, settings, locked packages and environment, each by content.
"""

from __future__ import annotations

import ast
import difflib
import re
import shutil
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ..engine import git_snapshot
from ..engine.config import compose
from ..engine.errors import UserError
from ..engine.hashing import present_sha256
from ..engine.inputs import CONTRACT, code_sha256, data_sha256, lock_sha256, settings_that_count
from ..engine.project import project
from ..engine.record import Record, settings_of

NOTHING = "—"  # where one side has no value
Difference = tuple[str, str, str]  # name, value of the one, value of the other


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with dotted keys; lists are values."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= flat(each, f"{prefix}.{key}" if prefix else str(key))
    return found


def differing(one: Any, other: Any) -> list[Difference]:
    """List what differs between two nested dicts: name, value of the one, value of the other."""
    mine, theirs = flat(one), flat(other)
    names = [name for name in {**mine, **theirs} if mine.get(name, NOTHING) != theirs.get(name, NOTHING)]
    return [(name, str(mine.get(name, NOTHING)), str(theirs.get(name, NOTHING))) for name in names]


def differing_files(one: dict[str, str], other: dict[str, str]) -> list[Difference]:
    """List what differs between two sets of files, by their sha256: changed, missing or added in the other."""
    names = sorted(name for name in one | other if one.get(name) != other.get(name))
    return [(name, one.get(name, NOTHING)[:12], other.get(name, NOTHING)[:12]) for name in names]


# What a project consists of besides data and results; copied where Git does not know the state of the code
CODE = (
    *("src", "tests", "configs", "requirements", "vendor", "notebooks", "references"),
    *("pyproject.toml", ".python-version", "Makefile", "README.md", "LICENSE", "CITATION.cff", "dvc.yaml"),
    *(".gitignore", ".gitattributes", ".pre-commit-config.yaml", ".github", ".gitlab-ci.yml", ".cruft.json"),
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
    found = differing_files(record["inputs"]["data"], data_sha256(processed))
    origin = record["inputs"].get("origin", {}).get("files", [])
    pinned = {each["name"]: each["sha256"] for each in origin}
    if raw.is_dir():  # without it, as in a clone that fetched only what training reads, there is nothing to compare
        changed = differing_files(pinned, present_sha256(raw, pinned))
        found = [*((f"raw/{name}", mine, theirs) for name, mine, theirs in changed), *found]
    return named("data", found)


def code_differences(record: Record) -> list[Difference]:
    """Compare the code that the run could import, code from outside of it, the locks, and the library's contract."""
    root, inputs = project().root, record["inputs"]
    known = {name: sha256 for name, sha256 in inputs.get("outside", {}).items() if not name.startswith(".../")}
    here = {"code": code_sha256(inputs["config"]), "outside": present_sha256(root, known), "lock": lock_sha256(root)}
    return input_differences(inputs | {"outside": known, "data": {}}, here | {"contract": CONTRACT})


def input_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """List how the inputs of two runs differ, but for their settings."""
    kinds = {"code": "code", "outside": "code outside of the package", "lock": "lock", "data": "data"}
    files = [named(kind, differing_files(one.get(key, {}), other.get(key, {}))) for key, kind in kinds.items()]
    return [*chain(*files), *contract_difference(one, other)]


def contract_difference(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Compare the contract of the library in two inputs: where it is the same, so are the bits of every training."""
    return named("library", differing({"contract": one["contract"]}, {"contract": other["contract"]}))


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
    found = named("settings", differing(record["inputs"]["config"], here))
    return found, words if found else None


def export_code(record: Record, run: Path, target: Path, instead: str = INSTEAD) -> bool:
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
        git_snapshot.export_snapshot(project().root, record["source"], run, target)
        return True
    except git_snapshot.NoGit as reason:
        if code_differences(record):
            commit = record["source"].get("commit")
            where = f"(commit {commit[:12]}) is not in this repository" if commit else "was kept nowhere"
            fetch = "fetch it (git fetch origin '+refs/runs/*:refs/runs/*'), or " if commit else ""
            raise UserError(
                f"the recorded code {where} ({reason}), and the code here is another one: {fetch}{instead}."
            ) from None
        for name in CODE:
            if (project().root / name).is_dir():
                shutil.copytree(project().root / name, target / name, ignore=shutil.ignore_patterns(*NO_CODE))
            elif (project().root / name).exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(project().root / name, target / name)
        return False


def code_diff(changed: list[Difference], one: Path, other: Path | None = None) -> str:
    """Show how the changed files of code differ between two trees, by default to here."""
    lines: list[str] = []
    for name, *_ in changed:
        kind, _, path = name.rpartition(" ")
        folder = project().source.relative_to(project().root) if kind == "code" else Path()
        if kind in ("lock", "library") or name.startswith("settings"):
            continue
        before, after = (_lines(tree / folder / path) for tree in (one, other or project().root))
        where = (folder / path).as_posix()
        lines += difflib.unified_diff(before, after, f"before/{where}", f"after/{where}", lineterm="", n=1)
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def environment_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """List how two environments differ, the most telling first; packages that only one of them has make one line."""
    order = ("patched", "startup", "packages", "threads", "flags", "processor.model", "gpu", "variables", "libraries")
    found = []
    for name, *values in differing(one, other):
        if "{}" in values or (name.startswith("packages.") and NOTHING in values):
            continue
        mine, theirs = (value[:12] if re.fullmatch("[0-9a-f]{64}", value) else value for value in values)
        found.append((name, mine, theirs))
    a, b = (side.get("packages", {}).keys() for side in (one, other))
    if a != b:
        found.append((ONLY_ONE_HAS, _short(sorted(a - b)), _short(sorted(b - a))))
    return sorted(found, key=lambda each: next((i for i, key in enumerate(order) if each[0].startswith(key)), 99))


def _short(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (", ".join(names[:4]) + more) or NOTHING


ONLY_ONE_HAS = "packages that only one has"
INCIDENTAL = ("system.os", "system.container", "processor.cores", "threads.between operations", ONLY_ONE_HAS)


def may_change_results(environment: list[Difference]) -> bool:
    """Whether something differs in the environment that is not incidental to the arithmetic."""
    return any(name not in INCIDENTAL for name, *_ in environment)


CLOCK_OR_CHANCE = re.compile(
    r".*\.(time\.(time|monotonic|perf_counter)(_ns)?|datetime\.(now|utcnow|today)|date\.today|os\.(urandom|getpid)"
    r"|SystemRandom|uuid\.uuid[14]|secrets\.(token_bytes|token_hex|randbelow|randbits)|torch\.seed|socket\.gethostname"
    r"|platform\.node)"
)
READS = re.compile(
    r".*\.(open|read_text|read_bytes|getenv|(np|torch)\.load|np\.loadtxt|read_csv|urlopen|requests\.get)"
)
SEED = re.compile(r".*(default_rng|RandomState|random\.seed|Random|generator\.seed)")  # which they are to be given


def nondeterminism_lint(files: Mapping[str, Path]) -> list[str]:
    """List calls for what no record holds, as `package/models/network.py:31 calls time.time()`.

    Args:
        files: each with the name that it is to have in the list.
    """
    found = []
    for name, path in sorted(files.items()):
        try:
            nodes = list(ast.walk(ast.parse(path.read_bytes())))
        except (SyntaxError, ValueError, OSError):
            continue
        may_read = "data" in Path(name).parts[:-1]  # of the project's data, that is
        for node in nodes:
            if isinstance(node, ast.Call):
                asked = f".{ast.unparse(node.func)}"
                unseeded = SEED.fullmatch(asked) and not node.args and not node.keywords
                if unseeded or CLOCK_OR_CHANCE.fullmatch(asked) or (READS.fullmatch(asked) and not may_read):
                    found.append(f"{name}:{node.lineno} calls {asked[1:]}()")
            elif isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ" and not may_read:
                found.append(f"{name}:{node.lineno} reads os.environ")
    return found
