"""Whether a run's files agree with its record, and what differs here from what it was made of.

Compared are data, code, settings and locked packages, each by content; of the environment, see environment_diff.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError

from ..engine import access_log, git_snapshot, trace_reader, weights
from ..engine import record as records
from ..engine.config import compose
from ..engine.errors import UserError
from ..engine.files import JUNK, file_sha256, present_sha256
from ..engine.git_snapshot import PATCH
from ..engine.inputs import (
    CONTRACT,
    code_sha256,
    data_folder,
    data_sha256,
    inputs_id,
    lock_sha256,
    named_files,
    of_resolved,
    settings_that_count,
)
from ..engine.project import project
from ..engine.record import CONFIG, HISTORY, METRICS, PREDICTIONS, RUN_NAME, WEIGHTS, Record, settings_of
from ..engine.secrets import redact, why_private
from ..engine.trace_reader import TRACE
from ..engine.untrusted import LOADER, load_json, read_yaml
from .verdict_files import tampered

CODE_SUFFIXES = (".py", ".pyc", ".so", ".pyd", ".pth")
FILE_OUTSIDE = "file outside of the data"
NOTHING = "—"  # where one side has no value
MEASURED = (trace_reader.FINAL, trace_reader.TEST)  # the evaluations that give a run's metrics
MOST_LINES = 40  # of a diff, and rows of a table, on the terminal; the verdict's file has all
Difference = tuple[str, str, str]  # name, value of the one, value of the other


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with dotted keys; lists are values."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return found


def differing(one: Any, other: Any) -> list[Difference]:
    """List what differs between two nested dicts."""
    mine, theirs = flat(one), flat(other)
    names = [name for name in {**mine, **theirs} if mine.get(name, NOTHING) != theirs.get(name, NOTHING)]
    return [(name, str(mine.get(name, NOTHING)), str(theirs.get(name, NOTHING))) for name in names]


def differing_files(one: dict[str, str], other: dict[str, str]) -> list[Difference]:
    """List what differs between two sets of files, by their sha256: changed, missing or added in the other."""
    names = sorted(name for name in one | other if one.get(name) != other.get(name))
    return [(name, one.get(name, NOTHING)[:12], other.get(name, NOTHING)[:12]) for name in names]


# --- whether the files of a run agree with each other: what was edited after the run does not


def contradictions(run: Path, record: Record) -> list[str]:
    """List what does not agree with a finished run's record, each as a sentence that names the file and both values."""
    if found := records.no_files(run):
        return found
    parts = (_name, _config, _metrics, _trace, _weights, _other_files)
    found = []
    for part in parts:
        try:
            found += part(run, record)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            what = f"{type(error).__name__}: {error}"
            found.append(f"its files are of another form than those that a training writes ({what})")
    if not found and not records.is_sealed(record):
        found.append("record.json was edited after the run: its seal (sha256) is that of another content")
    return found


def require_unedited(run: Path) -> None:
    """Refuse, with a UserError, to give as a result what was edited after the training, or found to be so."""
    record, name = records.read_finished(run), os.path.relpath(run)
    if found := contradictions(run, record):
        raise UserError(f"{name} was edited after it was trained ({found[0]}): move it away, then train again.")
    if found := tampered(run, record):
        raise UserError(
            f"{name} is no result ({found[0]}): restore its files, and let make reproduce RUN={name} say IDENTICAL; or"
            " move it away, then train again."
        )


def require_no_secret(run: Path) -> None:
    """Refuse, with a UserError, to give to others a run in whose texts a password or a key stands."""
    record = records.read_record(run)
    found = [
        name for name in (CONFIG, PATCH) if (run / name).is_file() and why_private(name, (run / name).read_bytes())
    ]
    if found := [records.RECORD] * (redact(record) != record) or found:
        mend = "take it out of the settings or the code, train again, and give that run to others"
        raise UserError(f"{os.path.relpath(run)}/{found[0]} has a password or a key in it: {mend}.")


def _name(run: Path, record: Record) -> list[str]:
    found, name = [], record["run"]
    if RUN_NAME.fullmatch(run.resolve().name) and run.resolve().name != name:
        found.append(f"the directory is called {run.resolve().name}, but its record is that of {name}")
    digits = inputs_id(record["inputs"])
    if digits not in name.split("-"):
        found.append(f"record.json: the inputs have the hash {digits}, but the run is called {name}")
    return found


# what reading a file raises that holds no settings
UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, AttributeError, LookupError, TypeError)


def _config(run: Path, record: Record) -> list[str]:
    path = run / CONFIG
    if not path.exists():
        return [f"{CONFIG} is missing"]
    try:
        text = read_yaml(path)
        with suppress(*UNREADABLE):
            # word for word, which a reader in C compares thirty times as fast
            if of_resolved(yaml.load(text, LOADER)) == record["inputs"]["config"]:
                return []
        cfg = OmegaConf.create(text)
        if not isinstance(cfg, DictConfig):
            raise ValueError("it is a list")
        here = settings_that_count(cfg)
    except UNREADABLE as error:
        return [f"{CONFIG} cannot be read ({' '.join(str(error).split())})"]
    return _other_values(CONFIG, record["inputs"]["config"], here)


def _other_values(file: str, recorded: Any, here: Any) -> list[str]:
    found = differing(recorded, here)
    return [f"{file}: {name} is {theirs}, but the record says {mine}" for name, mine, theirs in found]


def _metrics(run: Path, record: Record) -> list[str]:
    if not (run / METRICS).exists():
        return [f"{METRICS} is missing"]
    try:
        here = load_json(run / METRICS)
    except (OSError, ValueError):
        return [f"{METRICS} cannot be read"]
    return _other_values(METRICS, record["outputs"]["metrics"], here)


def _trace(run: Path, record: Record) -> list[str]:
    path, recorded = run / TRACE, record["outputs"]["trace"]
    if recorded is None:
        return [f"{TRACE} is there, but the record knows of none"] if path.exists() else []
    if not path.is_file():
        return [f"{TRACE} is missing"]
    where = trace_reader.broken_row(path)
    if file_sha256(path) == recorded["sha256"] and not where:
        return _evaluations(path, record)
    count = len(trace_reader.read_trace(path))
    where = where or "its last lines are not those of the record"
    return [f"{TRACE} was edited: {where}; it has {count} rows, and the record says {recorded['rows']}"]


def _evaluations(path: Path, record: Record) -> list[str]:
    """Compare the record with the last rows of its trace: those of the evaluations of the weights that were kept."""
    outputs, digits = record["outputs"], inputs_id(record["inputs"])
    rows = [row for row in trace_reader.read_trace(path)[-len(MEASURED) :] if row.get("evaluation") in MEASURED]
    gave = {name: (row["evaluation"], value) for row in rows for name, value in row["metrics"].items()}
    found = [
        f"{TRACE} is that of a run whose inputs have the hash {row['inputs']}, but those of the record have {digits}"
        for row in rows[-1:]
        if row["inputs"] != digits
    ]
    found += [
        f"{TRACE}: the {row['evaluation']} measured the weights {row['weights'][:12]}, but the record is that of"
        f" {outputs['weights'][:12]}"
        for row in rows
        if row["weights"] != outputs["weights"]
    ]
    return found + [
        f"{name} is {value} in the record, but the {gave[name][0]} in {TRACE} gave {gave[name][1]}"
        for name, value in outputs["metrics"].items()
        if name in gave and gave[name][1] != repr(float(value))
    ]


def _weights(run: Path, record: Record) -> list[str]:
    path = run / WEIGHTS
    if not path.exists():
        return []  # a clone without the DVC remote: what a re-run gives is compared with the record's digests
    try:
        made_by = weights.read_run(path)
    except UserError as error:
        return [str(error)]
    if made_by != record["run"]:
        return [f"{WEIGHTS} is that of the run {made_by}, but the record is that of {record['run']}"]
    whole, each = weights.digests(path.read_bytes())
    changed = differing_files(record["outputs"]["tensors"], each)
    found = [f"{WEIGHTS}: the tensor {name} is not the one whose hash is in the record" for name, *_ in changed]
    if not found and whole != record["outputs"]["weights"]:
        found.append(f"{WEIGHTS} has the hash {whole[:12]}, and the record says {record['outputs']['weights'][:12]}")
    return found


def _other_files(run: Path, record: Record) -> list[str]:
    """Compare those that are known by their sha256; a clone may have no history and no predictions."""
    digests = {PATCH: record["source"].get("patch"), HISTORY: record["observed"].get("history")}
    digests[PREDICTIONS] = record["outputs"].get("predictions")
    known = {name: sha256 for name, sha256 in digests.items() if sha256}
    here = present_sha256(run, known)
    found = [f"{name} was edited after the run" for name in here if here[name] != known[name]]
    if PATCH in known and not (run / PATCH).exists():
        found.insert(0, f"{PATCH} is missing, though the record says that the code differed from the commit")
    return found


# What a project consists of besides data and results; copied where Git does not know the state of the code
CODE = (
    *("src", "tests", "configs", "requirements", "vendor", "notebooks", "references"),
    *(
        "pyproject.toml",
        ".python-version",
        "Makefile",
        "README.md",
        "LICENSE",
        "SECURITY.md",
        "CITATION.cff",
        "dvc.yaml",
    ),
    *(".gitignore", ".gitattributes", ".pre-commit-config.yaml", ".github", ".gitlab-ci.yml", ".cruft.json"),
    *("docs", "Dockerfile", "apptainer.def", "compose.yaml", ".dockerignore", ".devcontainer", ".binder"),
    *(".dvc/config", ".dvc/.gitignore", ".dvcignore", "models/.gitignore", "reports/.gitignore"),
    *("data/README.md", "data/.gitignore", "data/external/.gitkeep", "data/interim/.gitkeep"),
)
NO_CODE = (*(name for name in JUNK if name != ".gitkeep"), "*.egg-info", ".*_cache")
INSTEAD = "compare with the code here by leaving out CODE= and FRESH="


def named(kind: str, found: list[Difference]) -> list[Difference]:
    """Put the kind before each name."""
    return [(f"{kind} {name}", mine, theirs) for name, mine, theirs in found]


def data_differences(record: Record, cfg: DictConfig) -> list[Difference]:
    """Compare the data by hash: what the run read, and the raw files that it was made of where they are here."""
    paths = cfg[project().paths]
    processed, raw = data_folder(cfg), Path(paths.get("raw") or "")
    found = differing_files(record["inputs"]["data"], data_sha256(processed))
    pinned = {file["name"]: file["sha256"] for file in record["inputs"].get("origin", {}).get("files", [])}
    if (
        pinned and raw.is_dir()
    ):  # without it, as in a clone that fetched only what training reads, there is nothing to compare
        changed = differing_files(pinned, present_sha256(raw, pinned))
        found = [*((f"raw/{name}", mine, theirs) for name, mine, theirs in changed), *found]
    return named("data", found)


def named_file_differences(record: Record, cfg: DictConfig) -> list[Difference]:
    """Compare the files that the run's settings name."""
    inputs = record["inputs"]
    here = named_files(inputs["config"], data_folder(cfg))
    return named("file of the setting", differing_files(inputs.get("files", {}), here.get("files", {})))


def code_differences(record: Record) -> list[Difference]:
    """Compare the code that the run could import, what it loaded or read besides, the locks, and the contract."""
    root, inputs = project().root, record["inputs"]
    outside = inputs.get("outside", {})
    known = {name: each for name, each in outside.items() if not name.startswith(".../") and each != access_log.GONE}
    here = {"code": code_sha256(inputs["config"]), "outside": present_sha256(root, known), "lock": lock_sha256(root)}
    without = inputs | {"outside": known, "data": {}, "files": {}}
    return input_differences(without, {**here, "contract": CONTRACT})


def is_code(difference: Difference) -> bool:
    """Whether it is one of code, and not of a file that code reads."""
    return not difference[0].startswith(("file ", "data "))


def outside_differences(one: dict[str, str], other: dict[str, str]) -> list[Difference]:
    """List what differs between what two trainings loaded and read besides their inputs."""
    code = "code outside of the package"
    return [
        (f"{code if Path(name).suffix in CODE_SUFFIXES else FILE_OUTSIDE} {name}", mine, theirs)
        for name, mine, theirs in differing_files(one, other)
    ]


def input_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """List how the inputs of two runs differ, but for their settings."""
    kinds = {"code": "code", "outside": "", "files": "file of the setting", "lock": "lock", "data": "data"}
    found = {key: differing_files(one.get(key, {}), other.get(key, {})) for key in kinds}
    found["outside"] = outside_differences(one.get("outside", {}), other.get("outside", {}))
    rows = [named(kind, found[key]) if kind else found[key] for key, kind in kinds.items()]
    return [*chain(*rows), *contract_difference(one, other)]


def contract_difference(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Compare the contract of the library in two inputs: where it is the same, so are the bits of every training."""
    return named("library", differing({"contract": one["contract"]}, {"contract": other["contract"]}))


def settings_differences(record: Record) -> tuple[list[Difference], list[str] | None]:
    """Compare today's settings of the run's command with the recorded; return its overrides, too, where they differ."""
    overrides = settings_of(record)
    if overrides is None:
        return [], None
    try:
        here = settings_that_count(compose(overrides))
    except (HydraException, OmegaConfBaseException, UserError, yaml.YAMLError) as error:
        reason = re.split(r" (?:Available options|Config search path)", " ".join(str(error).split()))[0]
        return [("settings", "as in config.yaml", f"cannot be composed from configs/ any more ({reason})")], None
    found = named("settings", differing(record["inputs"]["config"], here))
    return found, overrides if found else None


def export_code(record: Record, run: Path, target: Path, instead: str = INSTEAD) -> bool:
    """Write the recorded state of the code to a folder; return whether Git had it, else it is a copy of the same here.

    Raises:
        UserError: it is not in this repository, and the code here is another one; it names the mend `instead`.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        git_snapshot.export_snapshot(project().root, record["source"], run, target)
        return True
    except git_snapshot.NoGit as reason:
        if any(map(is_code, code_differences(record))):
            commit = record["source"].get("commit")
            where = f"(commit {commit[:12]}) is not in this repository" if commit else "was kept nowhere"
            fetch = "fetch it (git fetch origin '+refs/runs/*:refs/runs/*'), or " if commit else ""
            raise UserError(
                f"the recorded code {where} ({reason}), and the code here is another one: {fetch}{instead}."
            ) from None
        here = project()
        files = [(here.source / name).relative_to(here.root).as_posix() for name in record["inputs"]["code"]]
        for name in dict.fromkeys([*CODE, here.configs_in, *files]) if here.adopted else CODE:
            path = project().root / name
            if path.is_dir():
                shutil.copytree(path, target / name, ignore=shutil.ignore_patterns(*NO_CODE))
            elif path.exists():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / name)
        return False


def code_diff(changed: list[Difference], make_trees: Callable[[], Sequence[Path]]) -> str:
    """Show how the changed files of code differ between two trees, which are made only where there are any."""
    files = [name.rpartition(" ") for name, *_ in changed if name.startswith("code")]
    if not files:
        return ""
    try:
        trees = make_trees()
    except UserError as error:
        return f"(no diff: {error})"
    lines: list[str] = []
    for kind, _, name in files:
        path = (project().source.relative_to(project().root) if kind == "code" else Path()) / name
        before, after = (
            (tree / path).read_text(encoding="utf-8", errors="replace").splitlines() if (tree / path).exists() else []
            for tree in trees
        )
        where = path.as_posix()
        lines += difflib.unified_diff(before, after, f"before/{where}", f"after/{where}", lineterm="", n=1)
    return "\n".join(lines)
