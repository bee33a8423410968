"""Reading a finished run: its settings and its weights, always from the same directory."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from .config import PACKAGE, ROOT, check
from .errors import UserError
from .repro import determinism
from .repro.inputs import code_sha256

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

MAIN = ROOT / "models" / "main"  # what the pipeline's main run published


def read_config(run: Path, root: Path = ROOT) -> DictConfig:
    """Read the settings that a run was trained with; its paths, saved relative to the project, are taken from `root`.

    Raises:
        UserError: there is no run, or its config.yaml is damaged.
    """
    path = run / "config.yaml"
    if not path.exists():
        raise UserError(f"{path} is missing: run `make train`, or name another run's folder.")
    try:
        cfg = OmegaConf.create(_absolute(OmegaConf.to_container(OmegaConf.load(path)), root))
        assert isinstance(cfg, DictConfig)
    except (YAMLError, OmegaConfBaseException, AssertionError) as error:
        raise UserError(f"{path} is damaged: take it from Git again (git checkout -- {path}).") from error
    check(cfg)
    return cfg


def newest_run(models: Path = ROOT / "models") -> Path:
    """Find the run that finished last; where it is the main run, the published copy, whose verdicts Git keeps.

    Raises:
        UserError: there is none.
    """
    found = []
    for path in models.glob("*/record.json"):
        try:
            observed = json.loads(path.read_text())["observed"]
        except (ValueError, KeyError):
            continue  # the command that is given the run says what is wrong with it
        if observed["status"] == "finished":
            found.append((observed["ended"], path.parent == MAIN, path.parent))
    if not found:
        raise UserError(f"{models} has no finished run: `make train` makes one.")
    return max(found)[2]


def load_model(run: Path, cfg: DictConfig) -> tuple[LightningModule, str]:
    """Build the model of a run on the CPU, with its weights.

    Returns:
        The model, ready to predict, and the id of the run that made the weights, which the file itself carries.

    Raises:
        UserError: the weights are missing, damaged, or those of another network.
    """
    if determinism.supported(cfg.determinism):
        determinism.before_torch(cfg.determinism)
    else:
        print("warning: this processor rounds otherwise than the run's, so last digits may differ.", file=sys.stderr)
    from .build import build
    from .repro import weights

    determinism.pin_threads(cfg.determinism)
    model = build(cfg, "model")
    run_id = weights.load(model.network, run / "model.safetensors")
    warn_of_changes(run, "code", code_sha256(PACKAGE))
    model.eval()
    return model, run_id


def warn_of_changes(run: Path, kind: str, now: dict[str, str]) -> None:
    """Say which files are not those that the run was trained with.

    Args:
        run: folder with record.json.
        kind: `code` or `data`.
        now: the sha256 of each file as it is.
    """
    record = run / "record.json"
    if not record.exists():
        print(f"warning: {record} is missing, so nobody knows whether the {kind} is that of the run.", file=sys.stderr)
        return
    trained = json.loads(record.read_text())["inputs"][kind]
    changed = sorted(name for name in trained | now if trained.get(name) != now.get(name))
    if changed:
        print(f"warning: the {kind} has changed since the run was trained: {', '.join(changed)}.", file=sys.stderr)


def _absolute(value: Any, root: Path) -> Any:
    """Make the saved paths, which start with `./`, absolute."""
    if isinstance(value, dict):
        return {key: _absolute(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item, root) for item in value]
    return str(root / value) if isinstance(value, str) and value.startswith("./") else value
