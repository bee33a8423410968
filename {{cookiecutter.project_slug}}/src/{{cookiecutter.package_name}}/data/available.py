"""Having the data that some settings ask for: fetched and prepared, where they are not here yet."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from .fetch import fetch


def make_available(cfg: DictConfig) -> None:
    """Fetch and prepare the data of `cfg`, unless something has been prepared in its folder.

    What is there is left as it is: whether it is the right thing is for others to say.

    Raises:
        UserError: a file cannot be had, or is not the one whose sha256 the settings pin.
    """
    if (Path(cfg.paths.processed) / "dataset.json").exists():
        return
    from .prepare import prepare  # here, because it loads NumPy

    fetch(cfg)
    prepare(cfg)
