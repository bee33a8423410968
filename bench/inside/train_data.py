"""Train for some steps, then validate and test; print samples a second, and two peaks of memory in bytes.

The first peak is of memory that is the process's own, the second of all that it has touched: data that is read from a
file in memory counts there too, though the system can take it back at any time.
"""

import tempfile
import time

import memory
from samebits.engine import determinism
from samebits.engine.config import compose

WARM, STEPS = 200, 800
cfg = compose(["trainer.max_epochs=10000", f"+trainer.max_steps={STEPS}", "snapshot=false", "callbacks.best=null"])
cfg.paths.models = tempfile.mkdtemp()
determinism.before_torch(cfg.determinism)
import pytorch_lightning as pl  # noqa: E402
from handwritten_digits.train import train  # noqa: E402
from samebits.engine import trainer  # noqa: E402
from samebits.engine.record import peak_memory  # noqa: E402


class Clock(pl.Callback):
    """Notes the time after the first steps, and after the last."""

    def on_train_batch_end(self, trainer, *arguments) -> None:
        """Look at the clock."""
        if trainer.global_step in (WARM, STEPS):
            setattr(self, f"at_{trainer.global_step}", time.perf_counter())


def build_trainer(cfg, directory, build=trainer.build_trainer):
    """Build the project's own trainer, and give it a clock."""
    built = build(cfg, directory)
    built.callbacks.append(clock)
    return built


clock = Clock()
trainer.build_trainer = build_trainer
train(cfg)
seconds = getattr(clock, f"at_{STEPS}") - getattr(clock, f"at_{WARM}")
print((STEPS - WARM) * cfg.data.module.batch_size / seconds, memory.own, peak_memory())
