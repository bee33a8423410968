"""What a run is a function of, by content: settings, code, locked packages, data, and the library's contract."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from .adoption import require_data, without_root
from .code_closure import code_closure, targets
from .distributed import number_of_shards
from .errors import UserError
from .files import (
    HASHES,
    file_sha256,
    files_in,
    files_sha256,
    hash_cache,
    json_sha256,
    locate,
    write_atomically,
)
from .project import Project, project
from .secrets import keep_references, redact

LIBRARY = Path(__file__).resolve().parents[1]
RUN_PATH = "<run>"
HASHED = ("config", "code", "lock", "data", "files", "contract", "library")  # what names a run

# Raised when, and only when, some training's bits change: tests/golden.json holds digests of reference trainings.
# A release of the library that keeps it renames no run.
CONTRACT = 2
EXPECTED = "EXPECTED_INPUTS"  # environment variable: the fingerprint of what a sweep has asked for

# Settings that cannot change the result: where things are written, what is shown, how data is brought to memory. For
# each of them, tests/test_invariance.py trains with another value and compares the weights.
NOT_INPUTS = (
    "paths",
    *(f"samebits.{name}" for name in ("root", "processed", "models", "run")),  # the paths of an adopted project
    "run_name",
    "tags",
    "cluster",
    "force",
    "publish",
    "logger",
    "callbacks.resume",
    "callbacks.progress_bar",
    "callbacks.learning_rate",
    "callbacks.trace",
    "callbacks.predictions",
    "callbacks.probe",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "trainer.devices",  # how many processes: what counts is the number of shards
    "trainer.num_nodes",
    "data.card",
    "data.files",  # what the run reads is data/processed, whose bytes are inputs
    "data.module.directory",
    "data.module.num_workers",
    "data.module.persistent_workers",
    "data.module.prefetch_factor",
    "snapshot",
)


def portable_config(cfg: DictConfig) -> DictConfig:
    """Resolve the configuration to the same text on every machine: `.` is the project's folder, RUN_PATH the run's.

    Secrets are left out; what refers to one, as `${oc.env:HF_TOKEN}`, stays as it is.
    """
    return OmegaConf.create(_portable(cfg))


def _portable(cfg: DictConfig) -> dict[str, Any]:
    copy = cfg.copy()
    OmegaConf.set_struct(copy, False)
    copy[project().paths].root = "."
    copy[project().paths].run = RUN_PATH
    referring = keep_references(written := OmegaConf.to_container(copy))
    plain = OmegaConf.to_container(copy if referring == written else OmegaConf.create(referring), resolve=True)
    return dict(redact(without_root(plain, project().root) if project().adopted else plain, settings=True))


def settings_that_count(cfg: DictConfig) -> dict[str, Any]:
    """Resolve the configuration, leave out NOT_INPUTS, and say how many shards there are."""
    return of_resolved(_portable(cfg))


def of_resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """Do the same with a configuration that is resolved: plain values, changed in place."""
    settings["determinism"]["shards"] = number_of_shards(settings)  # where it is not given, one for each process
    if not fold_of(settings):  # they say nothing then, and name no run
        for data in (section(settings, "data"), section(section(settings, "data"), "module")):
            data.pop("folds", None)
    for key in NOT_INPUTS:
        *parents, name = key.split(".")
        node: Any = settings
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(name, None)
    return settings


def section(settings: Mapping[str, Any], name: str) -> MutableMapping[str, Any]:
    """Return one group of resolved settings; empty where there is none, or a plain value, as in adopted projects."""
    found = settings.get(name)
    return found if isinstance(found, MutableMapping) else {}


class Fold(NamedTuple):
    """One fold of a cross-validation; `str` is how a run's name says it."""

    number: int  # from 0 on
    of: int  # how many there are
    by: str
    seed: int

    def __str__(self) -> str:
        return f"fold={self.number}of{self.of}"


def fold_of(settings: Mapping[str, Any]) -> Fold | None:
    """Read which fold a run's settings, resolved, ask for; None where they ask for none."""
    folds = section(section(settings, "data"), "folds")
    if folds.get("count") is None:
        return None
    return Fold(folds["fold"], folds["count"], folds.get("by") or "stratified", folds.get("seed") or 0)


def lock_sha256(root: Path) -> dict[str, str]:
    """Hash the locked packages that every installation has; the library's own line is left out: its contract counts."""
    folder = root / "requirements"
    return files_sha256(folder, [*folder.glob("main.txt"), *folder.glob("torch-*.txt")])


def code_sha256(settings: dict[str, Any], where: Project | None = None) -> dict[str, str]:
    """Hash the project's code that a training with these settings can import.

    Args:
        settings: that count, whose `_target_`s are followed, as the imports of the package's `train` are.
        where: the project; by default the one here.
    """
    where = where or project()
    starts = frozenset({where.train, *targets(settings)})
    return files_sha256(where.source, code_closure(where.source, starts))


def edited_library(folder: Path = LIBRARY) -> dict[str, str]:
    """Hash the library's files that a training loads and that are not as they were released.

    What was released is listed in the RECORD of the wheel, or beside the source where a project holds that itself;
    where there is no such list, as in a checkout of the library, all of them count as edited.
    """
    record, text = folder / "RECORD", ""
    with suppress(PackageNotFoundError):
        text = record.read_text() if record.exists() else distribution(folder.name).read_text("RECORD") or ""
    released = dict(line.split(",")[:2] for line in text.splitlines() if line.startswith(f"{folder.name}/"))
    found = {}
    for path in (folder / "__init__.py", folder / "run.py", *sorted((folder / "engine").glob("*.*"))):
        sha256 = file_sha256(path)
        digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
        if released.get(path.relative_to(folder.parent).as_posix()) != f"sha256={digest}":
            found[path.relative_to(folder).as_posix()] = sha256
    return found


def data_sha256(folder: Path, hash_file: Callable[[Path], str] = file_sha256) -> dict[str, str]:
    """Hash every file that a run reads: of an adopted project, what it has named of the folder."""
    names = project().data
    listed = [folder] if names is None else [folder / name for name in names]
    found = {path for each in listed for path in ([each] if each.is_file() else files_in(each))}
    return files_sha256(folder, found, hash_file)


def data_folder(cfg: DictConfig, root: Path | None = None) -> Path:
    """Return the folder that the data module reads; of a module that is told of none, that of the prepared data."""
    own = None if project().adopted else section(section(cfg, "data"), "module").get("directory")
    return (root or project().root) / (own if own and isinstance(own, str) else cfg[project().paths].processed)


SAVED_MODEL = ("config.json", "tokenizer.json", "*.safetensors", "*.bin", "*.ckpt", "*.pt")  # files of its folder


def named_files(settings: Mapping[str, Any], data: Path) -> dict[str, dict[str, str]]:
    """Collect, as the input `files`, those that settings name, and those in a folder that holds a model.

    Args:
        settings: that count, with paths from the project's folder.
        data: the folder of the data, which are inputs by themselves.

    Returns:
        The sha256 of each by its setting and path, as `model.weights=folder/file`; nothing where there are none.
    """
    found: dict[str, str] = {}

    def walk(value: Any, key: str) -> None:
        if isinstance(value, Mapping | list):
            for name, each in value.items() if isinstance(value, Mapping) else enumerate(value):
                walk(each, f"{key}.{name}" if key else str(name))
        elif isinstance(value, str) and re.search(r"[/.]", value) and RUN_PATH not in value:
            with suppress(OSError, ValueError):  # it is no path
                path = locate(project().root, value)
                if path.is_file() and not path.resolve().is_relative_to(data.resolve()):
                    found[f"{key}={value}"] = hash_file(path)
                elif path.is_dir() and any(any(path.glob(each)) for each in SAVED_MODEL):
                    listed = files_sha256(path, (each for each in path.rglob("*") if each.is_file()), hash_file)
                    found.update({f"{key}={value}/{name}": sha256 for name, sha256 in listed.items()})

    with hash_cache(hashes()) as hash_file:
        walk(settings, "")
    return {"files": found} if found else {}


def named_paths(inputs: Mapping[str, Any]) -> list[Path]:
    """List where the files are that a run's settings name."""
    return [locate(project().root, key.partition("=")[2]) for key in inputs.get("files", {})]


def input_files(inputs: Mapping[str, Any]) -> set[Path]:
    """List where the files are that are inputs of a run here, but for its data."""
    here = project()
    found = {here.source / name for name in inputs["code"]} | {path.resolve() for path in named_paths(inputs)}
    return found | {here.root / "requirements" / name for name in inputs["lock"]}


def hashes() -> Path:
    """Return the file in which hashes are kept."""
    return (project().runs if project().adopted else project().root) / HASHES


def collect(cfg: DictConfig) -> dict[str, Any]:
    """Collect the inputs of the run that `cfg` describes: `config`, the settings that count, `code` and the rest."""
    settings, data = settings_that_count(cfg), data_folder(cfg)
    shared = shared_inputs(data)
    require_data(shared["data"], project().data or ())
    return {"config": settings, "code": code_sha256(settings), **shared, **named_files(settings, data)}


def shared_inputs(data: Path) -> dict[str, Any]:
    """Collect the inputs that are the same for all runs that begin now.

    Data that has not changed since it was hashed last is not read again.

    Args:
        data: the folder of the files that the run reads.

    Returns:
        `lock` and `data`, the sha256 of each file; `contract`; `library`, where files of it are not as released.
    """
    with hash_cache(hashes()) as hash_file:
        found = {"lock": lock_sha256(project().root), "data": data_sha256(data, hash_file), "contract": CONTRACT}
    edited = edited_library()
    return found | ({"library": edited} if edited else {})


def inputs_id(inputs: dict[str, Any]) -> str:
    """Name the inputs by the first 8 hexadecimal digits of the hash of those that are HASHED."""
    return json_sha256({key: inputs[key] for key in HASHED if key in inputs})[:8]


def fingerprint(inputs: dict[str, Any]) -> str:
    """Write the hash of each of the inputs in one line, for another process to compare with what it finds."""
    return " ".join(f"{key}={json_sha256(inputs[key])[:16]}" for key in HASHED if key in inputs)


def require_expected(inputs: dict[str, Any]) -> None:
    """Refuse to train something else than a sweep has asked for: between the two, a job may wait for days.

    Raises:
        UserError: says what has changed.
    """
    expected = os.environ.get(EXPECTED, "")
    changed = [now.partition("=")[0] for now in fingerprint(inputs).split() if now not in expected.split()]
    if expected and changed:
        names = {"config": "the settings", "code": "the code", "lock": "the locked packages", "data": "the data"}
        names |= {
            "files": "the files that settings name",
            "contract": "the library samebits",
            "library": "the library samebits",
        }
        what = " and ".join(dict.fromkeys(names[key] for key in changed))
        raise UserError(f"{what} changed after this run was asked for: give the sweep's command once more.")


def data_settings(cfg: DictConfig) -> dict[str, Any]:
    """List the settings that decide what `prepare` writes."""
    return {
        "name": cfg.data.name,
        "files": {entry.name: entry.sha256 for entry in cfg.data.files},
        "split": OmegaConf.to_container(cfg.data.split, resolve=True),
    }


def write_dataset(cfg: DictConfig, rows: Mapping[str, Any]) -> dict[str, Any]:
    """Write dataset.json beside the prepared files: by it, a run sees whether they were made with its own settings.

    Args:
        cfg: the composed configuration.
        rows: of each split, the numbers of the raw samples in it: whole numbers, (N,).

    Returns:
        What the file holds: settings, number of samples and rows of each split.
    """
    listed = {name: [int(row) for row in index] for name, index in rows.items()}
    dataset = {**data_settings(cfg), "samples": {name: len(each) for name, each in listed.items()}, "rows": listed}
    write_atomically(Path(cfg.paths.processed) / "dataset.json", f"{json.dumps(dataset)}\n".encode())
    return dataset


def require_prepared(cfg: DictConfig) -> None:
    """Refuse to go on with arrays that are missing or were made with other settings than the run's.

    Raises:
        UserError: says which setting differs.
    """
    if project().adopted:
        return  # its data are what `collect` finds
    path = data_folder(cfg) / "dataset.json"
    if not path.exists():
        name = cfg.data.name
        raise UserError(
            f"{path} is missing: run `make data`, with DATA={name} if configs/train.yaml chooses other data."
        )
    made = json.loads(path.read_text())
    for key, wanted in data_settings(cfg).items():
        if made.get(key) != wanted:
            raise UserError(
                f"{path.parent} was made with {key}={made.get(key)}, but the run asks for {wanted}: change settings of"
                " the data in configs/data/, and the choice of data in configs/train.yaml, then run `make data`."
            )


def data_origin(cfg: DictConfig) -> dict[str, Any]:
    """Describe where the data comes from: its card, the address and hash of each file, the hash of the split."""
    if project().adopted:
        return {}  # whose data have no card
    made = json.loads((data_folder(cfg) / "dataset.json").read_text())
    files = [{"name": each.name, "uri": redact(str(each.uri)), "sha256": str(each.sha256)} for each in cfg.data.files]
    card = str(cfg.data.get("card") or "data/README.md")
    return {**read_card(project().root / card), "card": card, "files": files, "split": json_sha256(made["rows"])}


ROWS = {"title": "Title", "licence": "Licen[cs]e", "address": "Persistent address"}


def read_card(path: Path) -> dict[str, str | None]:
    """Read title, licence and persistent address; None for what the card does not say."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {key: re.search(rf"^\|\s*{name}\s*\|\s*(.*?)\s*\|\s*$", text, re.M | re.I) for key, name in ROWS.items()}
    return {key: match[1].strip("<>") if match else None for key, match in found.items()}
