"""A run's directory and its record.json, which says what made it.

The directory is named after the run's inputs, finished once, and never overwritten. The form of the record is described
by record.schema.json, and its seal tells of later edits:

inputs       what the run is a function of; its id is the hash of those named in `inputs.HASHED`
source       the state of the code, and the words of the command
environment  what may change the arithmetic all the same
observed     when, how long, how much
outputs      digests of what came out
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
from fastjsonschema import JsonSchemaValueException
from omegaconf import DictConfig, OmegaConf

from .distributed import is_first
from .errors import UserError
from .files import (
    file_sha256,
    hash_cache,
    json_sha256,
    only_process,
    opened,
    present_sha256,
    write_atomically,
)
from .git_snapshot import PATCH
from .inputs import RUN_PATH, fold_of, hashes, inputs_id, portable_config
from .project import project
from .secrets import redact
from .trace_reader import TRACE
from .untrusted import leads_out, load_json

FORMAT = 1  # raised when a record is written so that older code would misread it
RECORD, METRICS, WEIGHTS, CONFIG = "record.json", "metrics.json", "model.safetensors", "config.yaml"
HISTORY, PREDICTIONS = "history.csv", "predictions.csv"
# words of one command, not of a run
WISHES = ("publish=", "force=", "paths.models=", "samebits.models=", "snapshot=", "logger=")
COMPUTE = "compute.json"  # of a run that has not finished; afterwards the record holds it
COUNTERS = Path("/sys/class/powercap")  # of Intel and AMD processors, in microjoules; readable by root alone on many
LONGEST_NAME = 200  # characters of the readable part; file systems take 255 in all, with what is added to it
PROBE = "probe.json"  # what a training that was ended after its first steps leaves instead of outputs
RUN_NAME = re.compile(r".*-[0-9a-f]{8}(-\d+)?")  # of a run's own directory; copies have others, like main
SCHEMA = Path(__file__).with_name("record.schema.json")

Record = dict[str, Any]


def write_record(directory: Path, record: Record) -> None:
    """Write a record with its seal; passwords in addresses are left out."""
    sealed = redact({"format": FORMAT, **{key: value for key, value in record.items() if key != "sha256"}})
    sealed["sha256"] = json_sha256(sealed)
    write_atomically(directory / RECORD, f"{json.dumps(sealed, indent=2)}\n".encode())


def run_folders(models: Path) -> list[Path]:
    """List the folders of runs, sorted: what has a file of theirs; what cannot be one, with a run's name or none."""
    found = sorted(path for path in models.iterdir() if path.name[0] != ".") if models.is_dir() else []

    def is_listed(path: Path) -> bool:
        ours = any(os.path.lexists(path / name) for name in PUBLISHED)
        return ours or not path.exists() or bool(RUN_NAME.fullmatch(path.name) and not os.access(f"{path}/.", os.X_OK))

    return list(filter(is_listed, found))


def no_files(directory: Path) -> list[str]:
    """Say in a sentence of each of a run's files that something else is in its place, or it may not be read."""
    found = []
    for path in filter(os.path.lexists, (directory / name for name in PUBLISHED)):
        try:
            opened(path).close()
        except OSError as error:
            if path.name != WEIGHTS or error.errno != errno.ENOENT:  # a link into an emptied cache: as in a clone
                found.append(f"{path.name} cannot be read ({error.strerror})")
    return found


def is_sealed(record: Record) -> bool:
    """Whether a record is as it was written."""
    return bool(record["sha256"] == json_sha256({key: value for key, value in record.items() if key != "sha256"}))


def read_record(directory: Path) -> Record:
    """Read a run's record.

    Raises:
        UserError: there is none, or it is none of this format.
    """
    path = directory / RECORD
    try:
        path.lstat()
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise UserError(
                f"{directory} cannot be read as a run's folder ({error.strerror}): {RESTORE.format(directory)}"
            ) from error
        raise UserError(f"{path} is missing: name the folder of a run; ls {project().runs_in}/ lists them.") from error
    for name in PUBLISHED:
        if name != WEIGHTS and leads_out(directory / name):  # DVC may have these in a cache elsewhere; they are hashed
            raise UserError(f"{directory / name} is a link out of the project: put the file itself there.")
    record = read_json(path)
    try:
        written = record.get("format")
        if written is not None and written != FORMAT:
            raise UserError(
                f"{path} has the format {written}, and this code reads {FORMAT}: use the code of the commit that the"
                " record names."
            )
        validator(SCHEMA)(record, name_prefix="record")
    except JsonSchemaValueException as error:
        raise UserError(f"{path} is damaged ({error}): {RESTORE.format(path)}") from error
    return record


RESTORE = "restore it (git checkout -- {}), or move its folder away and train again."


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a run; a UserError where it holds no JSON object, or cannot be read."""
    try:
        found = load_json(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} is damaged ({reason}): {RESTORE.format(path)}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged (it is no JSON object): {RESTORE.format(path)}")
    return found


@cache
def validator(schema: Path) -> Callable[..., dict[str, Any]]:
    """Make the function that checks a dict by a JSON schema; a JsonSchemaValueException where it does not fit."""
    return fastjsonschema.compile(json.loads(schema.read_text()), use_default=False)


def read_finished(directory: Path) -> Record:
    """Read the record of a run that came to its end.

    Raises:
        UserError: it did not, there is none, or what is no file is in the place of one of its files.
    """
    record = read_record(directory)
    if record["observed"]["status"] != "finished":
        raise UserError(f"{directory} has not finished: {command(record)} goes on with it.")
    if found := no_files(directory):
        raise UserError(f"{directory}: {found[0]}: {RESTORE.format(directory)}")
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
    here = project()
    if any("$" in word for word in words):  # which make and the shell would read as theirs
        words = [f"{here.runs_in}/{record['run']}/{CONFIG}"]
    if here.adopted:
        return shlex.join(["python", "-m", here.train, *words])
    # in quotes, where a word holds a blank or a quote
    quoted = [json.dumps(word, ensure_ascii=False) if re.search(r"[\s'\"\\]", word) else word for word in words]
    return f"make train ARGS={shlex.quote(' '.join(quoted))}" if words else "make train"


def outputs(directory: Path, weights: str, tensors: dict[str, str], metrics: dict[str, float]) -> dict[str, Any]:
    """List what came out of a run.

    Args:
        directory: the run's.
        weights: the sha256 of all tensors.
        tensors: that of each.
        metrics: exact floats.
    """
    trace, predictions = directory / TRACE, directory / PREDICTIONS
    traced = {"sha256": file_sha256(trace), "rows": trace.read_bytes().count(b"\n")} if trace.exists() else None
    predicted = file_sha256(predictions) if predictions.exists() else None
    return {"weights": weights, "tensors": tensors, "metrics": metrics, "trace": traced, "predictions": predicted}


def same_result(one: Record, other: Record) -> bool:
    """Whether two records tell of the same inputs and outputs, wherever and whenever they were made."""
    return all(one.get(part) == other.get(part) for part in ("run", "inputs", "outputs"))


PUBLISHED = (WEIGHTS, CONFIG, METRICS, TRACE, PREDICTIONS, HISTORY, PATCH, RECORD)
OF_THE_TRAINING = (HISTORY, PATCH, RECORD)  # the same result, trained elsewhere, may have other ones


@dataclass(frozen=True)
class RunDirectory:
    """One training and its directory `models/<readable name>-<hash of the inputs>`."""

    directory: Path
    inputs: dict[str, Any]

    @property
    def id(self) -> str:
        """The name of the directory, by which weights lead back to it."""
        return self.directory.name

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: metrics.json is written last."""
        return os.path.lexists(self.directory / METRICS)

    @property
    def record(self) -> Record:
        """The record as it is; empty before the run has begun."""
        path = self.directory / RECORD
        return read_json(path) if os.path.lexists(path) else {}

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of a finished run."""
        return read_json(self.directory / METRICS)

    @property
    def weights_digest(self) -> str:
        """The sha256 of a finished run's weights, by content."""
        return str(self.record["outputs"]["weights"])

    def lock(self) -> AbstractContextManager[None]:
        """Keep other trainings out of the directory for a while; a finished run needs no keeping.

        Of several processes of one training, the first one does so.
        """
        if self.finished or not is_first():
            return nullcontext()
        return only_process(self.directory.parent / ".locks" / self.id, self.directory)

    def start(self, cfg: DictConfig, describe_source: Callable[[], dict[str, Any]], now: str) -> None:
        """Make the directory; write config.yaml, from which the run can be started again as it was, and the record.

        Args:
            cfg: the composed configuration.
            describe_source: says in which state the code is; called when the directory is there.
            now: the time.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = portable_config(cfg)
        settings.force, settings.publish = False, None  # wishes of this one command, not settings of the run
        settings[project().paths].run = "???"
        text = OmegaConf.to_yaml(settings).replace(RUN_PATH, f"${{{project().paths}.run}}")
        write_atomically(self.directory / CONFIG, f"# {self.id}\n{text}".encode())
        began = self.record.get("observed", {}).get("started", now)  # by an earlier start of the same run
        started = {"run": self.id, "inputs": self.inputs, "source": describe_source()}
        write_record(self.directory, started | {"observed": {"status": "running", "started": began}})

    def discard(self) -> None:
        """Remove what `start` has written, and what a training writes before its first step."""
        for name in (RECORD, CONFIG, PATCH, TRACE, HISTORY, COMPUTE):
            (self.directory / name).unlink(missing_ok=True)
        with suppress(OSError):  # other files stay
            self.directory.rmdir()

    def finish(self, metrics: dict[str, float], outputs: dict[str, Any], **parts: dict[str, Any]) -> None:
        """Write the record and, as the last file, metrics.json: exact floats.

        Args:
            metrics: of the weights.
            outputs: from `record.outputs`.
            parts: more of the record's; they are added to what is there.
        """
        finished = self.record | {"outputs": outputs}
        for name, part in parts.items():
            finished[name] = finished.get(name, {}) | part
        write_record(self.directory, finished)
        write_metrics(self.directory / METRICS, metrics)

    def outdated(self, root: Path) -> list[str]:
        """List the files that the run had loaded or read besides its inputs, and that are not what they were."""
        known = self.record.get("inputs", {}).get("outside", {})
        if not known:
            return []
        with hash_cache(hashes()) as hash_file:
            return [name for name, sha256 in present_sha256(root, known, hash_file).items() if sha256 != known[name]]

    def publish(self, target: Path) -> None:
        """Copy what others build on to a directory of a fixed name: the same bytes for the same inputs.

        A record that is there and tells of the same result stays, with the verdicts on it.
        """
        target.mkdir(parents=True, exist_ok=True)
        there = RunDirectory(target, {}).record
        same = bool(there) and same_result(there, self.record)
        for name in PUBLISHED:
            if (self.directory / name).exists():
                if not same or name not in OF_THE_TRAINING:
                    write_atomically(target / name, (self.directory / name).read_bytes())
            elif not same:
                (target / name).unlink(missing_ok=True)


def names_by_inputs(models: Path) -> dict[str, str]:
    """List the directories of runs, each by the hash of its inputs; of several, the first by name."""
    names = [path.name for path in models.glob("*-*")]
    return {name.rpartition("-")[2]: name for name in sorted(names, reverse=True)}


def find_run(
    models: Path,
    name: str,
    inputs: dict[str, Any],
    root: Path,
    fresh: bool = False,
    list_names: Callable[[Path], dict[str, str]] = names_by_inputs,
) -> RunDirectory:
    """Find the directory that belongs to these inputs, whether it exists or not.

    Args:
        models: the folder of all runs.
        name: the readable part of the directory's name.
        inputs: from `inputs.collect`.
        root: the project's folder.
        fresh: take a directory beside the finished ones: `...-2`, `...-3`.
        list_names: lists the folder; another one, where it is asked for many times.
    """
    digits, fold = inputs_id(inputs), fold_of(inputs["config"])
    # no hidden folder, and no name that Git refuses, for the state of the code is kept by it
    readable = re.sub(r"[^A-Za-z0-9_=.,+-]|^\.|\.(?=\.)", "_", f"{redact(name)}-{fold}" if fold else redact(str(name)))
    if len(readable) > LONGEST_NAME:  # its middle tells the least: the model is at the beginning, the seed at the end
        readable = f"{readable[: LONGEST_NAME // 2 - 1]}--{readable[1 - LONGEST_NAME // 2 :]}"
    run_id = f"{readable}-{digits}"
    if not (models / run_id).exists():  # the same inputs under another readable name?
        run_id = list_names(models).get(digits, run_id)
    run = RunDirectory(models / run_id, inputs)
    number = 2
    while run.finished and (fresh or run.outdated(root)):
        run = RunDirectory(models / f"{run_id}-{number}", inputs)
        number += 1
    return run


def write_metrics(path: Path, metrics: dict[str, float]) -> None:
    """Write metrics as JSON; floats are written so that they are read back exactly."""
    write_atomically(path, f"{json.dumps(metrics, indent=2)}\n".encode())


def read_usage(path: Path) -> dict[str, Any]:
    """Read the file; empty where nothing is written."""
    try:
        usage = load_json(path)
    except (OSError, ValueError):
        return {}
    used = usage.items() if isinstance(usage, dict) else ()
    return {name: value for name, value in used if isinstance(value, int | float)}


def counters() -> dict[str, float]:
    """Read the clocks of this process and its children, in seconds, and the processor's energy, in joules."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in usage)
    return {"wall_seconds": time.monotonic(), "cpu_seconds": cpu, "joules": energy()}


def energy() -> float:
    """Read the processor's counter of energy, in joules; 0.0 where there is none, or none that may be read."""
    try:
        found = COUNTERS.glob("intel-rapl:[0-9]*/energy_uj")
        return sum(int(each.read_text()) for each in found if each.parent.name.count(":") == 1) / 1e6
    except OSError:
        return 0.0


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now() -> str:
    """Return the time: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
