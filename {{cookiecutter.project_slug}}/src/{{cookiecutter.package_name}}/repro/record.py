"""record.json: what made a run. Its form is described by record.schema.json, its seal tells of later edits.

inputs       what the run is a function of; its id is the hash of those named in inputs.HASHED
source       the state of the code, and the words of the command
environment  what may change the arithmetic all the same
observed     when, how long, how much
outputs      digests of what came out
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
from fastjsonschema import JsonSchemaValueException

from ..errors import UserError
from .files import write_atomically
from .hashing import file_sha256, json_sha256
from .redact import redact
from .traces import TRACE

FORMAT = 1  # raised when a record is written so that older code would misread it
RECORD, METRICS, WEIGHTS, CONFIG = "record.json", "metrics.json", "model.safetensors", "config.yaml"
HISTORY, PREDICTIONS = "history.csv", "predictions.csv"
WISHES = ("publish=", "force=", "paths.models=", "snapshot=", "logger=")  # words of one command, not of a run
PROBE = "probe.json"  # what a training that was ended after its first steps leaves instead of outputs
SCHEMA = Path(__file__).with_name("record.schema.json")

Record = dict[str, Any]


def write(directory: Path, record: Record) -> None:
    """Write a record with its seal; passwords in addresses are left out."""
    sealed = redact({"format": FORMAT, **{key: value for key, value in record.items() if key != "sha256"}})
    sealed["sha256"] = json_sha256(sealed)
    write_atomically(directory / RECORD, f"{json.dumps(sealed, indent=2)}\n".encode())


def is_sealed(record: Record) -> bool:
    """Whether a record is as it was written."""
    return bool(record["sha256"] == json_sha256({key: value for key, value in record.items() if key != "sha256"}))


def read(directory: Path) -> Record:
    """Read a run's record.

    Raises:
        UserError: there is none, or it is none of this format.
    """
    path = directory / RECORD
    if not path.exists():
        raise UserError(f"{path} is missing: name the folder of a run; ls models/ lists them.")
    try:
        record = json.loads(path.read_text())
        written = record.get("format") if isinstance(record, dict) else None
        if written is not None and written != FORMAT:
            raise UserError(
                f"{path} has the format {written}, and this code reads {FORMAT}: use the code of the commit that the"
                " record names."
            )
        _validator()(record, name_prefix="record")
    except (json.JSONDecodeError, UnicodeDecodeError, JsonSchemaValueException) as error:
        raise UserError(f"{path} is damaged ({error}): restore it (git checkout -- {path}), or train again.") from error
    return dict(record)


@cache
def _validator() -> Callable[..., Record]:
    return fastjsonschema.compile(json.loads(SCHEMA.read_text()), use_default=False)


def read_finished(directory: Path) -> Record:
    """Read the record of a run that came to its end.

    Raises:
        UserError: it did not, or there is none.
    """
    record = read(directory)
    if record["observed"]["status"] != "finished":
        raise UserError(f"{directory} has not finished: {command(record)} goes on with it.")
    return record


def settings_of(record: Record) -> list[str] | None:
    """Read the settings in the words of the command that began a run; None where there was none."""
    words = record["source"].get("overrides")
    return words and [word for word in words if not word.lstrip("+~").startswith(WISHES)]


def command(record: Record) -> str:
    """Say what a user types to train the run, as far as the record knows."""
    words = settings_of(record)
    if words is None:
        return "the command that began it"
    if any("$" in word for word in words):  # which make and the shell would read as theirs
        words = [f"models/{record['run']}/{CONFIG}"]
    return f"make train ARGS={shlex.quote(' '.join(words))}" if words else "make train"


def outputs(directory: Path, digests: dict[str, str], weights: str, metrics: dict[str, float]) -> dict[str, Any]:
    """List what came out of a run.

    Args:
        directory: the run's.
        digests: sha256 of each tensor.
        weights: that of all.
        metrics: exact floats.
    """
    trace, predictions = directory / TRACE, directory / PREDICTIONS
    traced = {"sha256": file_sha256(trace), "rows": trace.read_bytes().count(b"\n")} if trace.exists() else None
    predicted = file_sha256(predictions) if predictions.exists() else None
    return {"weights": weights, "tensors": digests, "metrics": metrics, "trace": traced, "predictions": predicted}


def same_result(one: Record, other: Record) -> bool:
    """Whether two records tell of the same inputs and outputs, wherever and whenever they were made."""
    return all(one.get(part) == other.get(part) for part in ("run", "inputs", "outputs"))
