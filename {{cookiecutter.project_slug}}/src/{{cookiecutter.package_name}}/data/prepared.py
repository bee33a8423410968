"""What `prepare` leaves for the others to know; kept apart because it needs no NumPy, and starts at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..config import ROOT
from ..errors import UserError
from ..repro.card import read_card
from ..repro.hashing import json_sha256
from ..repro.redact import redact


def settings(cfg: DictConfig) -> dict[str, Any]:
    """List the settings that decide what `prepare` writes."""
    return {
        "name": cfg.data.name,
        "files": {entry.name: entry.sha256 for entry in cfg.data.files},
        "split": OmegaConf.to_container(cfg.data.split, resolve=True),
    }


def require_prepared(cfg: DictConfig) -> None:
    """Refuse to go on with arrays that are missing or were made with other settings than the run's.

    Raises:
        UserError: says which setting differs.
    """
    path = Path(cfg.paths.processed) / "dataset.json"
    if not path.exists():
        raise UserError(f"{path} is missing: run `make data`.")
    made = json.loads(path.read_text())
    for key, wanted in settings(cfg).items():
        if made.get(key) != wanted:
            raise UserError(
                f"{path.parent} was made with {key}={made.get(key)}, but the run asks for {wanted}: change settings of"
                " the data in configs/data/, and the choice of data in configs/train.yaml, then run `make data`."
            )


def origin(cfg: DictConfig) -> dict[str, Any]:
    """Describe where the data comes from: its card, the address and hash of each file, the hash of the split."""
    made = json.loads((Path(cfg.paths.processed) / "dataset.json").read_text())
    files = [{"name": each.name, "uri": redact(str(each.uri)), "sha256": str(each.sha256)} for each in cfg.data.files]
    card = str(cfg.data.get("card") or "data/README.md")
    return {**read_card(ROOT / card), "card": card, "files": files, "split": json_sha256(made["rows"])}
