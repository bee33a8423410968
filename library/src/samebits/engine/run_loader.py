"""Finished runs, loaded: settings and weights always come from the same directory."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from . import determinism
from .config import check
from .errors import UserError
from .inputs import code_sha256, data_folder, data_sha256, require_prepared, settings_that_count
from .printing import printable, warn
from .project import project
from .record import read_record, run_folders
from .untrusted import read_yaml

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule


def main_run() -> Path:
    """Name the folder that the pipeline's main run is published to."""
    return project().runs / "main"


def read_config(run: Path, root: Path | None = None) -> DictConfig:
    """Read the settings that a run was trained with; its paths, saved relative to the project, start at `root`.

    Raises:
        UserError: there is no run, or its config.yaml is damaged.
    """
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{path} is missing, or no file: run `make train`, or name another run's folder.")
    try:
        cfg = OmegaConf.create(
            _absolute(OmegaConf.to_container(OmegaConf.create(read_yaml(path))), root or project().root)
        )
        assert isinstance(cfg, DictConfig)
        check(cfg, saved=True)
    except (YAMLError, OmegaConfBaseException, AssertionError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: take it from Git again (git checkout -- {path}).") from error
    return cfg


@dataclass(frozen=True)
class SavedRun:
    """A finished run: its settings and its weights, always from the same directory.

    Attributes:
        directory: the run's.
        cfg: the settings that it was trained with.
        root: of the project whose data is read.
    """

    directory: Path
    cfg: DictConfig
    root: Path

    def model(self) -> LightningModule:
        """Build the model on the CPU, with its weights, ready to predict; the run's id is printed to stderr.

        Raises:
            UserError: the weights are missing, damaged, or those of another network.
        """
        model, run_id = load_model(self.directory, self.cfg)
        print(f"weights of {printable(run_id)}", file=sys.stderr)
        return model

    def evaluate(self) -> dict[str, float]:
        """Compute the validation and test metrics of the weights again, on the CPU.

        Raises:
            UserError: the weights or the data are not here, or not those of the run.
        """
        require_prepared(self.cfg)
        model = self.model()
        warn_of_changes(self.directory, "data", data_sha256(data_folder(self.cfg)))
        from .config import instantiate
        from .trainer import evaluation_trainer, measure

        return measure(evaluation_trainer(self.cfg), model, instantiate(self.cfg, "data.module"))


def load(run: Path | str | SavedRun | None = None, root: Path | None = None) -> SavedRun:
    """Load a finished run.

    Args:
        run: its directory; by default the main run's, models/main. One that has been loaded is returned as it is.
        root: of the project whose data is read; by default this one.

    Raises:
        UserError: there is no run, or its config.yaml is damaged.
    """
    if isinstance(run, SavedRun):
        return run
    directory = Path(run) if run is not None else main_run()
    root = root or project().root
    return SavedRun(directory, read_config(directory, root), root)


def newest_run() -> Path:
    """Find the run that finished last; where it is the main run, the published copy, whose verdicts Git keeps.

    Raises:
        UserError: there is none.
    """
    found = []
    models = project().runs
    for run in run_folders(models):
        try:
            observed = read_record(run)["observed"]
        except UserError as error:
            warn(f"{run.name} is passed over: {error}")
            continue
        if observed["status"] == "finished":
            found.append((observed["ended"], run == main_run(), run))
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
        warn("this processor rounds otherwise than the run's, so last digits may differ.")
    from . import weights
    from .config import instantiate

    determinism.pin_threads(cfg.determinism)
    model = instantiate(cfg, "model")
    model.configure_model()
    run_id = weights.load(model, run / "model.safetensors")
    warn_of_changes(run, "code", code_sha256(settings_that_count(cfg)))
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
        warn(f"{record} is missing, so nobody knows whether the {kind} is that of the run.")
        return
    trained = read_record(run)["inputs"][kind]
    changed = sorted(name for name in trained | now if trained.get(name) != now.get(name))
    if changed:
        warn(f"the {kind} has changed since the run was trained: {', '.join(changed)}.")


def _absolute(value: Any, root: Path) -> Any:
    """Make the saved paths, which start with `./`, absolute."""
    if isinstance(value, dict):
        return {key: _absolute(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item, root) for item in value]
    return str(root / value) if isinstance(value, str) and value.startswith("./") else value
