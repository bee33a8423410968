"""Whether the parts of a run's directory agree with each other: what was edited after the run does not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from ..engine import record as records
from ..engine import trace_reader, weights
from ..engine.errors import UserError
from ..engine.git_snapshot import PATCH
from ..engine.hashing import file_sha256, present_sha256
from ..engine.inputs import inputs_id, of_resolved, settings_that_count
from ..engine.record import CONFIG, HISTORY, METRICS, PREDICTIONS, WEIGHTS, Record
from ..engine.trace_reader import TRACE
from .provenance_diff import differing, differing_files

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
RUN_NAME = re.compile(r".*-[0-9a-f]{8}(-\d+)?")  # of a run's own directory; copies have others, like main


def contradictions(run: Path, record: Record) -> list[str]:
    """List what does not agree with the record, each as a sentence that names the file and both values.

    Args:
        run: the run's directory, or a published copy.
        record: its record, of a finished run.
    """
    parts = (_name, _config, _metrics, _trace, _weights, _other_files)
    found = [sentence for part in parts for sentence in part(run, record)]
    if not found and not records.is_sealed(record):
        found.append("record.json was edited after the run: its seal (sha256) is that of another content")
    return found


def require_unedited(run: Path) -> None:
    """Refuse to give as a result what was edited after the training.

    Raises:
        UserError: names what contradicts what.
    """
    found = contradictions(run, records.read_finished(run))
    if found:
        name = os.path.relpath(run)
        raise UserError(f"{name} was edited after it was trained ({found[0]}): move it away, then train again.")


def _name(run: Path, record: Record) -> list[str]:
    found, name = [], record["run"]
    if RUN_NAME.fullmatch(run.resolve().name) and run.resolve().name != name:
        found.append(f"the directory is called {run.resolve().name}, but its record is that of {name}")
    digits = inputs_id(record["inputs"])
    if digits not in name.split("-"):
        found.append(f"record.json: the inputs have the hash {digits}, but the run is called {name}")
    return found


def _config(run: Path, record: Record) -> list[str]:
    path = run / CONFIG
    if not path.exists():
        return [f"{CONFIG} is missing"]
    if _word_for_word(path, record):
        return []
    try:
        cfg = OmegaConf.load(path)
        assert isinstance(cfg, DictConfig)
        here = settings_that_count(cfg)
    except (yaml.YAMLError, AssertionError, ValueError, AttributeError, KeyError) as error:
        return [f"{CONFIG} cannot be read ({' '.join(str(error).split())})"]
    return [
        f"{CONFIG}: {key} is {theirs}, but the record says {mine}"
        for key, mine, theirs in differing(record["inputs"]["config"], here)
    ]


def _word_for_word(path: Path, record: Record) -> bool:
    """Compare config.yaml word for word, which a reader in C does thirty times as fast."""
    try:
        here = yaml.load(path.read_bytes(), LOADER)
        return bool(of_resolved(here) == record["inputs"]["config"])
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return False  # then `_config` says what is wrong


def _metrics(run: Path, record: Record) -> list[str]:
    path = run / METRICS
    if not path.exists():
        return [f"{METRICS} is missing"]
    try:
        here = json.loads(path.read_text())
    except ValueError:
        return [f"{METRICS} cannot be read"]
    return [
        f"{METRICS}: {name} is {theirs}, but the record says {mine}"
        for name, mine, theirs in differing(record["outputs"]["metrics"], here)
    ]


def _trace(run: Path, record: Record) -> list[str]:
    path, recorded = run / TRACE, record["outputs"]["trace"]
    if recorded is None:
        return [f"{TRACE} is there, but the record knows of none"] if path.exists() else []
    if not path.exists():
        return [f"{TRACE} is missing"]
    if file_sha256(path) == recorded["sha256"]:
        return []
    count = len(trace_reader.read_trace(path))
    where = trace_reader.broken_row(path) or "its last lines are not those of the record"
    return [f"{TRACE} was edited: {where}; it has {count} rows, and the record says {recorded['rows']}"]


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
    changed = differing_files(record["outputs"]["tensors"], weights.digests(path.read_bytes())[1])
    return [f"{WEIGHTS}: the tensor {name} is not the one whose hash is in the record" for name, *_ in changed]


def _other_files(run: Path, record: Record) -> list[str]:
    """Compare those that are known by their sha256; a clone may have no history and no predictions."""
    digests = {PATCH: record["source"].get("patch"), HISTORY: record["observed"].get("history")}
    digests[PREDICTIONS] = record["outputs"].get("predictions")
    known = {name: sha256 for name, sha256 in digests.items() if sha256}
    found = [
        f"{name} was edited after the run" for name, now in present_sha256(run, known).items() if now != known[name]
    ]
    if PATCH in known and not (run / PATCH).exists():
        found.insert(0, f"{PATCH} is missing, though the record says that the code differed from the commit")
    return found
