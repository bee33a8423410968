"""What goes into a bundle: which runs can be bundled, and where each file is read from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from omegaconf import DictConfig

from ..config import ROOT
from ..errors import UserError
from ..repro import record as records
from ..repro.record import WEIGHTS, Record
from ..repro.run import PUBLISHED
from ..saved import read_config
from ..verdicts.here import data_differences
from ..verdicts.integrity import require_unedited
from .tree import is_left_out, write_tree

VERDICTS = "verdicts/*.json"
LOCK = "dvc.lock"


@dataclass
class Contents:
    """The files of a bundle.

    Attributes:
        root: of the project.
        record: of the run.
        run: the run's folder in the bundle, `models/main` for example.
        files: where each file is read from, by its path in the bundle.
        data: those that are data, what the run reads and the raw files it was made of; each with its sha256.
        told: what is not as it is here, each as a sentence for the user.
    """

    root: Path
    record: Record
    run: str
    files: dict[str, Path]
    data: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


def collect(run: Path, staging: Path, with_data: bool, root: Path = ROOT) -> Contents:
    """Check a run, and collect what belongs to it.

    Args:
        run: its directory, or the published copy.
        staging: an empty folder, for files that are not those here.
        with_data: whether the data go in.
        root: of the project whose data and reports they are.

    Raises:
        UserError: the run has not finished, was edited, lacks its weights, or its data or code are not here.
    """
    record = records.read_finished(run)
    require_unedited(run)
    if not (run / WEIGHTS).exists():
        raise UserError(f"{_here(run / WEIGHTS)} is missing: fetch it (make pull), or train it again (make train).")
    if not with_data:
        _require_addresses(run, record)
    cfg = read_config(run, root)
    data = _data(run, record, cfg, root) if with_data else {}
    told = write_tree(record, run, staging)
    place = f"models/{run.resolve().name}"
    files = {path.relative_to(staging).as_posix(): path for path in sorted(staging.rglob("*")) if path.is_file()}
    files |= {f"{place}/{name}": run / name for name in PUBLISHED if (run / name).exists()}
    files |= {f"{place}/{path.relative_to(run).as_posix()}": path for path in sorted(run.glob(VERDICTS))}
    files |= _reports(root)
    files |= {name: path for name, (path, _) in data.items()}
    if (root / LOCK).exists():
        files[LOCK] = root / LOCK
    large = record["source"].get("left_out", {})
    told += [f"{name} was too large to be code when the run was trained, so it is not in the bundle" for name in large]
    return Contents(root, record, place, files, {name: sha256 for name, (_, sha256) in data.items()}, told)


def _require_addresses(run: Path, record: Record) -> None:
    """Refuse to name data by an address that means something on this computer alone.

    Raises:
        UserError: names it.
    """
    for each in record["inputs"].get("origin", {}).get("files", []):
        if urlparse(each["uri"]).scheme == "file":
            raise UserError(
                f"{_here(run)} was made of {each['uri']}, which nobody else can fetch: bundle it with its data (without"
                " DATA=no), or publish them first and write their address into configs/data/."
            )


def _data(run: Path, record: Record, cfg: DictConfig, root: Path) -> dict[str, tuple[Path, str]]:
    """Find the data that the run read, and the raw files where they are here: path and sha256 of each.

    Raises:
        UserError: they are not the recorded ones, or not in the project's folder.
    """
    processed, raw = Path(cfg.paths.processed), Path(cfg.paths.raw)
    if not (processed.is_relative_to(root) and raw.is_relative_to(root)):
        raise UserError(
            f"{_here(run)} read its data from outside of the project ({cfg.paths.processed}): bundle it without them,"
            " with DATA=no, or train on data in data/."
        )
    changed = data_differences(record, cfg)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"the data here are not those of {_here(run)} ({changed[0][0]}: recorded {changed[0][1][:12]}, here"
            f" {changed[0][2][:12]}{more}): choose the run's data in configs/train.yaml and run `make data`, or bundle"
            " the run without data, with DATA=no."
        )
    origin = record["inputs"].get("origin", {}).get("files", [])
    found = [(processed / name, sha256) for name, sha256 in record["inputs"]["data"].items()]
    found += [(raw / each["name"], each["sha256"]) for each in origin if (raw / each["name"]).exists()]
    return {path.relative_to(root).as_posix(): (path, sha256) for path, sha256 in sorted(found)}


def _reports(root: Path) -> dict[str, Path]:
    """Find the reports; the weights of the reference, which Git has not either, stay here."""
    paths = sorted(path for path in (root / "reports").rglob("*") if path.is_file() and not path.is_symlink())
    names = [(path.relative_to(root).as_posix(), path) for path in paths]
    return {name: path for name, path in names if not is_left_out(name) and path.name != WEIGHTS}


def _here(path: Path) -> str:
    return os.path.relpath(path)
