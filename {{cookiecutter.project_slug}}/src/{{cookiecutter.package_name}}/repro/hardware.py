"""What the settings of `determinism` ask of the hardware and of the optimiser, looked at while Lightning trains."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytorch_lightning as pl
import torch

from ..errors import UserError


class PortableOptimizer(pl.Callback):
    """Refuses optimisers whose arithmetic depends on the processor.

    The fused kernels of SGD, Adam, AdamW and Adagrad are one piece of code whose instruction set is pinned; the others
    call libraries that choose their own instructions, and were seen to differ between processors.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at every optimiser.

        Raises:
            UserError: names the optimiser.
        """
        for optimizer in trainer.optimizers:
            if not all(group.get("fused") for group in optimizer.param_groups):
                raise UserError(
                    f"determinism=portable needs a fused optimiser, and this {type(optimizer).__name__} is not: say"
                    " model.optimizer.fused=true (SGD, Adam, AdamW and Adagrad know it), or determinism=native."
                )


class SameHardware(pl.Callback):
    """Refuses to go on with a run on hardware that rounds otherwise: it would be the result of neither."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note what the training runs on."""
        self.name = hardware(trainer.strategy.root_device)

    def state_dict(self) -> dict[str, str]:
        """Put it into the checkpoint."""
        return {"hardware": self.name}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Compare it with the checkpoint's.

        Raises:
            UserError: it is another one.
        """
        if state["hardware"] != self.name:
            raise UserError(
                f"this run was begun on {state['hardware']}, and {self.name} may round otherwise: go on with it"
                " there, move its checkpoints/ away to train from the beginning, or choose determinism=portable."
            )


def hardware(device: torch.device) -> str:
    """Name the processor or the GPU, as far as it says."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    description = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)", description.read_text(), re.M) if description.exists() else None
    return f"{model[1] if model else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
