"""Whether the parts of a run's directory agree with each other: what was edited after the run does not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..repro import record as records
from ..repro import traces, weights
from ..repro.hashing import file_sha256
from ..repro.inputs import inputs_id, of_resolved, settings_that_count
from ..repro.record import CONFIG, HISTORY, METRICS, PREDICTIONS, WEIGHTS, Record
from ..repro.source import PATCH
from ..repro.traces import TRACE
from .differences import differing, files

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OWN = re.compile(r".*-[0-9a-f]{8}(-\d+)?")  # the name of a run's own directory; copies have others, like main


def contradictions(run: Path, record: Record) -> list[str]:
    """List what does not agree with the record, each as a sentence that names the file and both values.

    Args:
        run: the run's directory, or a published copy.
        record: its record, of a finished run.
    """
    found = [*_name(run, record), *_config(run, record), *_metrics(run, record), *_trace(run, record)]
    found += [*_weights(run, record), *_patch(run, record)]
    found += [*_history(run, record), *_predictions(run, record)]
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
    found = []
    name = record["run"]
    if OWN.fullmatch(run.resolve().name) and run.resolve().name != name:
        found.append(f"the directory is called {run.resolve().name}, but its record is that of {name}")
    digits = inputs_id(record["inputs"])
    if digits not in name.split("-"):
        found.append(f"record.json: the inputs have the hash {digits}, but the run is called {name}")
    return found


def _config(run: Path, record: Record) -> list[str]:
    path = run / CONFIG
    if not path.exists():
        return [f"{CONFIG} is missing"]
    if _plainly_the_same(path, record):
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


def _plainly_the_same(path: Path, record: Record) -> bool:
    """Whether config.yaml holds the recorded settings word for word, which a reader in C sees thirty times as fast."""
    try:
        here = yaml.load(path.read_bytes(), LOADER)
        return bool(of_resolved(here) == record["inputs"]["config"])
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
        return False  # then it is looked at more closely, and told what is wrong


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
    count = len(traces.read(path))
    where = traces.broken(path) or "its last lines are not those of the record"
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
    changed = files(record["outputs"]["tensors"], weights.digests(path.read_bytes())[1])
    return [f"{WEIGHTS}: the tensor {name} is not the one whose hash is in the record" for name, *_ in changed]


def _history(run: Path, record: Record) -> list[str]:
    path, recorded = run / HISTORY, record["observed"].get("history")
    if recorded is None or not path.exists() or file_sha256(path) == recorded:
        return []
    return [f"{HISTORY} was edited after the run"]


def _predictions(run: Path, record: Record) -> list[str]:
    path, recorded = run / PREDICTIONS, record["outputs"].get("predictions")
    if recorded is None or not path.exists() or file_sha256(path) == recorded:
        return []
    return [f"{PREDICTIONS} was edited after the run"]


def _patch(run: Path, record: Record) -> list[str]:
    path, recorded = run / PATCH, record["source"].get("patch")
    if recorded is None:
        return []
    if not path.exists():
        return [f"{PATCH} is missing, though the record says that the code differed from the commit"]
    return [] if file_sha256(path) == recorded else [f"{PATCH} was edited after the run"]
