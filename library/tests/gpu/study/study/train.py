"""Train: `python -m study.train`, with settings as `model=transformer` after it."""

import hydra

import samebits


@samebits.main(version_base="1.3", config_path="../configs", config_name="train")
def main(run: samebits.Run) -> None:
    """Train and measure."""
    datamodule = hydra.utils.instantiate(run.cfg.data)
    model = hydra.utils.instantiate(run.cfg.model)
    best = hydra.utils.instantiate(run.cfg.callbacks.best)
    trainer = hydra.utils.instantiate(run.cfg.trainer, callbacks=[best], logger=False)
    run.fit(trainer, model, datamodule)
    run.test(trainer, model, datamodule)


if __name__ == "__main__":
    main()
