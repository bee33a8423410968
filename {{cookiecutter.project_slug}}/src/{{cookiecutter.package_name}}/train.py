"""Train a model: `make train`, or `python -m <package>.train [key=value ...]`.

    make train                                          the main run; its results are copied to models/main/
    make train ARGS="seed=3 model.optimizer.lr=1e-3"    a run beside it, with other settings
    make train ARGS="debug=fast"                        two steps of everything, to see that it works
    make train ARGS=--help                              what can be set

Hydra composes the settings from configs/, where each of them is explained; configs/train.yaml is the place to start.
Settings, data, locked packages and the code that is imported from here name the run's directory, models/<run>/. A run
that has finished is not trained again. One that was cut off goes on where it was, to the same weights, bit for bit.
"""

from __future__ import annotations

import samebits


@samebits.main(config_name="train")
def train(run: samebits.Run) -> None:
    """Train the model that the settings describe, and measure it."""
    # Each is an object that the settings name by `_target_`, called with the arguments beside it
    datamodule = run.instantiate("data.module")  # configs/data/: data/datamodule.py
    model = run.instantiate("model")  # configs/model/: models/classifier.py, around a network of models/network.py

    trainer = run.trainer()  # Lightning's own, as configs/trainer/, configs/callbacks/ and configs/logger/ say
    run.fit(trainer, model, datamodule)  # from the last checkpoint, where there is one
    run.test(trainer, model, datamodule)  # measures the weights that are kept, then writes weights, metrics and record


if __name__ == "__main__":
    train()
