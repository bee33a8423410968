"""Fit the curve: `python src/train.py`, or `python src/train.py seed=1 trainer.max_epochs=50`."""

import logging
import os
import sys
from pathlib import Path

import hydra
import lightning as L
from omegaconf import DictConfig, OmegaConf

os.environ["PROJECT_ROOT"] = str(Path(__file__).resolve().parents[1])
sys.path.insert(0, os.environ["PROJECT_ROOT"])
OmegaConf.register_new_resolver("twice", lambda number: 2 * number, replace=True)
log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="../configs", config_name="train.yaml")
def main(cfg: DictConfig) -> None:
    L.seed_everything(cfg.seed, workers=True)
    log.info("making %s", cfg.data._target_)
    datamodule = hydra.utils.instantiate(cfg.data)
    model = hydra.utils.instantiate(cfg.model)
    callbacks = [hydra.utils.instantiate(each) for each in cfg.callbacks.values()]
    logger = [hydra.utils.instantiate(each) for each in cfg.logger.values()]
    trainer = hydra.utils.instantiate(cfg.trainer, callbacks=callbacks, logger=logger)
    trainer.fit(model, datamodule)
    if cfg.test:
        trainer.test(model, datamodule, ckpt_path="best")


if __name__ == "__main__":
    main()
