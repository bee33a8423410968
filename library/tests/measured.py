"""Models and data modules of which it matters what is measured and saved."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from .busy import BusyClassifier
from .programs import AnyDataModule


class Compiled(BusyClassifier):
    """Its network's tensors get other names."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.network = torch.compile(self.network, backend="eager")


class Configured(BusyClassifier):
    """Makes its network only when the trainer asks for it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.later, self.network = self.network, None

    def configure_model(self) -> None:
        """Put it in its place."""
        if self.network is None:
            self.network = self.later


class OtherName(BusyClassifier):
    """Has its weights in two places, of which none is all."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scale the scores."""
        scores: torch.Tensor = self.scale * super().forward(images)
        return scores


class Untested(pl.LightningModule):
    """Knows how to train, and no more."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.network = torch.nn.Linear(64, 10)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return a loss."""
        return torch.nn.functional.cross_entropy(self.network(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self) -> Any:
        """Return an optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.1, fused=True)


class Unvalidated(Untested):
    """Has a test, and no validation."""

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        self.log("test/loss", self.training_step(batch, batch_idx))


class ManyLoaders(AnyDataModule):
    """Validates and tests on two sets of samples each."""

    def val_dataloader(self) -> Any:
        """Return a list."""
        return [super().val_dataloader(), super().test_dataloader()]

    def test_dataloader(self) -> Any:
        """Return a list."""
        return [super().test_dataloader(), super().test_dataloader()]


class NoLoaders(AnyDataModule):
    """Returns an empty list for the validation."""

    def val_dataloader(self) -> Any:
        """Return nothing to validate on."""
        return []


class ByLoader(Unvalidated):
    """Logs the loss of each loader by itself."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log the loss."""
        self.log("val/loss", self.training_step(batch, batch_idx))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log the loss."""
        self.log("test/loss", self.training_step(batch, batch_idx))


class Adversarial(pl.LightningModule):
    """Two networks and two optimisers, called by hand in turns; noise from the global generator."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Tanh())
        self.critic = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)
        )

    def losses(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the critic's loss and the generator's."""
        made = self.generator(torch.randn(len(images), 8))
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        real, false = self.critic(images), self.critic(made.detach())
        critic = loss(real, torch.ones_like(real)) + loss(false, torch.zeros_like(false))
        return critic, loss(self.critic(made), torch.ones_like(false))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Step each of both, the generator at every other batch."""
        for place, optimizer in enumerate(self.optimizers()):  # type: ignore[arg-type]
            if place and batch_idx % 2:
                continue
            self.toggle_optimizer(optimizer)
            loss = self.losses(batch[0])[place]
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)
            self.log(("train/critic", "train/generator")[place], loss, on_step=False, on_epoch=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log what the others do, for the callbacks that watch it."""
        loss = self.losses(batch[0])[1]
        self.log_dict({"val/loss": loss, "val/accuracy": -loss})

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        self.log("test/loss", self.losses(batch[0])[0])

    def configure_optimizers(self) -> Any:
        """Return both optimisers."""
        return [torch.optim.Adam(part.parameters(), lr=0.01, fused=True) for part in (self.critic, self.generator)]
