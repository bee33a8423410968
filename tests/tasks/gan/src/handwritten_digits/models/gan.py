"""How two networks learn from each other to generate images: losses, metrics, optimisers."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.functional import softplus


class GAN(pl.LightningModule):
    """Trains `generator`, noise (B, noise) → images (B, 1, side, side), and `discriminator`, images → logits (B, 1)."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, noise: int, optimizer: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.noise = noise
        self.make_optimizer = optimizer

    def forward(self, count: int) -> torch.Tensor:
        """Generate images of random noise: float32 (count, 1, side, side)."""
        noise = torch.randn(count, self.noise).to(self.device)  # of the CPU: a GPU draws other numbers
        return self.generator(noise)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Train the discriminator to tell generated images from real ones, then the generator to mislead it."""
        real, made = batch[0], self(len(batch[0]))
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]

        d_loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(made.detach())).mean()
        discriminator_optimizer.zero_grad()
        self.manual_backward(d_loss)
        discriminator_optimizer.step()

        self.toggle_optimizer(generator_optimizer)  # the discriminator gathers no gradients
        g_loss = softplus(-self.discriminator(made)).mean()
        generator_optimizer.zero_grad()
        self.manual_backward(g_loss)
        generator_optimizer.step()
        self.untoggle_optimizer(generator_optimizer)
        self.log_dict({"train/g_loss": g_loss, "train/d_loss": d_loss}, on_step=False, on_epoch=True)
        self._measure("train", real, made.detach())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Measure as many generated images as there are real ones."""
        self._measure("val", batch[0], self(len(batch[0])))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Measure as many generated images as there are real ones."""
        self._measure("test", batch[0], self(len(batch[0])))

    def _measure(self, split: str, real: torch.Tensor, made: torch.Tensor) -> None:
        """Log the energy distance (Székely and Rizzo, 2013), which is near 0 as soon as means and covariances agree.

        `nearest` asks for more: how far a real image is from a generated one, relative to the nearest other real one.
        """
        real, made = real.flatten(1), made.flatten(1)
        apart, among_real = torch.cdist(made, real), torch.cdist(real, real).fill_diagonal_(torch.inf)
        distance = 2 * apart.mean() - torch.pdist(made).mean() - torch.pdist(real).mean()
        nearest = apart.amin(dim=0).mean() / among_real.amin(dim=0).mean()
        values = {f"{split}/energy_distance": distance, f"{split}/nearest": nearest}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(real))

    def configure_optimizers(self) -> Any:
        """Make an optimiser for each network."""
        return [self.make_optimizer(network.parameters()) for network in (self.generator, self.discriminator)]
