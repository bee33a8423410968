"""A model that does whatever could go wrong when a run is cut off, and an ordinary loader."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassRecall

from .project import module

Classifier = module("dummy.models.classifier").Classifier
datamodule = module("dummy.data.datamodule")


class BusyClassifier(Classifier):  # type: ignore[misc, valid-type] # found by its folder
    """Logs means of its own, keeps training metrics that share a state, draws from the global generator in hooks."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        classes = arguments["num_classes"]
        self.train_scores = MetricCollection(
            {
                "train/accuracy": MulticlassAccuracy(classes, average="macro"),
                "train/recall": MulticlassRecall(classes, average="macro"),
            }
        )

    def on_train_epoch_start(self) -> None:
        """Log a random number."""
        self.log("random/epoch", torch.rand(()))

    def on_train_epoch_end(self) -> None:
        """Shake the weights a little."""
        with torch.no_grad():
            for weights in self.network.parameters():
                weights += 1e-4 * torch.randn_like(weights)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Log a mean, a maximum and a random number beside the loss."""
        loss: torch.Tensor = super().training_step(batch, batch_idx)
        self.train_scores.update(self(batch[0]), batch[1])
        self.log_dict(self.train_scores, on_step=False, on_epoch=True)
        self.log("train/mean", loss, on_step=True, on_epoch=True, batch_size=len(batch[1]))
        self.log("train/worst", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log a random number beside the scores."""
        super().validation_step(batch, batch_idx)
        self.log("random/val", torch.rand(()), batch_size=len(batch[1]))

    def configure_optimizers(self) -> Any:
        """Lower the learning rate where the validation's loss stops falling."""
        optimizer = self.make_optimizer(self.network.parameters())
        schedule = {"scheduler": ReduceLROnPlateau(optimizer, patience=0), "monitor": "val/loss"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class ManualClassifier(BusyClassifier):
    """Calls its optimiser by itself, for every other batch."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Accumulate over two batches."""
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss / 2)
        if batch_idx % 2:
            optimizer: Any = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()
        return loss


class StepwiseClassifier(BusyClassifier):
    """Changes its learning rate at every step; asking for the number of steps makes the loaders early."""

    def configure_optimizers(self) -> Any:
        """Let the learning rate rise and fall once."""
        optimizer = self.make_optimizer(self.network.parameters())
        schedule = OneCycleLR(optimizer, max_lr=0.01, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Indeterministic(Classifier):  # type: ignore[misc, valid-type] # found by its folder
    """Uses an operation that PyTorch has no deterministic implementation of."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Put a number where it is."""
        loss: torch.Tensor = super().training_step(batch, batch_idx)
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
        return loss


class BusyDataModule(datamodule.ArrayDataModule):  # type: ignore[name-defined] # found by its folder
    """Augments whole batches between loading and step, as is done on GPUs."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Add noise while training."""
        images, labels = batch
        assert self.trainer is not None
        return (images + 0.01 * torch.randn_like(images) if self.trainer.training else images), labels


class PlainDataset(Dataset[Any]):
    """Samples one by one, augmented from the global generator: what most projects have."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Read a sample, brightened at random."""
        image, label = self.dataset[index]
        return image * torch.rand(()), label


class PlainDataModule(datamodule.ArrayDataModule):  # type: ignore[name-defined] # found by its folder
    """Order and augmentation from the global generator, as most projects have it."""

    def train_dataloader(self) -> Any:
        """Shuffled batches, as PyTorch makes them."""
        dataset = PlainDataset(datamodule.ArrayDataset(self.directory, "train"))
        options = {name: value for name, value in self.options.items() if name != "seed"}
        return DataLoader(dataset, shuffle=True, **options)


class SeededPlainDataModule(PlainDataModule):
    """The same samples one by one, through make_loader."""

    def train_dataloader(self) -> Any:
        """Shuffled batches, each sample with the global generators set for it."""
        dataset = PlainDataset(datamodule.ArrayDataset(self.directory, "train"))
        return module("samebits.engine.data_loading").make_loader(dataset, trainer=self.trainer, **self.options)


class Shared(Classifier):  # type: ignore[misc, valid-type] # found by its folder
    """Does what shards have to put together: batch statistics, metrics that share a state, numbers that are logged."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        classes = arguments["num_classes"]
        self.norm = torch.nn.BatchNorm2d(1)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf, torch.nan, 0.1]))  # stay what they are
        self.register_buffer("turns", torch.polar(torch.ones(3), torch.arange(3.0)))
        kinds = {"train/accuracy": MulticlassAccuracy, "train/recall": MulticlassRecall}
        self.train_scores = MetricCollection({name: kind(classes, average="macro") for name, kind in kinds.items()})

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Draw, count and log."""
        images, labels = self.norm(batch[0]) + 0.1 * torch.randn_like(batch[0]), batch[1]
        loss: torch.Tensor = super().training_step((images, labels), batch_idx)
        self.train_scores.update(self(images), labels)
        self.log_dict(self.train_scores, on_step=False, on_epoch=True)
        self.log("train/mean", loss, on_step=True, on_epoch=True)
        self.log("train/samples", float(len(labels)), on_step=True, on_epoch=False, reduce_fx="sum")
        return loss


class Collecting(Classifier):  # type: ignore[misc, valid-type] # found by its folder
    """Collects its scores while it trains, which shards cannot put together."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.curve = MulticlassAUROC(arguments["num_classes"], thresholds=None)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Keep them."""
        self.curve.update(self(batch[0]), batch[1])
        loss: torch.Tensor = super().training_step(batch, batch_idx)
        return loss


class InOrderDataModule(datamodule.ArrayDataModule):  # type: ignore[name-defined] # found by its folder
    """Trains on the samples in their order, which no seed decides."""

    def train_dataloader(self) -> Any:
        """Batches as validations have them."""
        dataset = datamodule.ArrayDataset(self.directory, "train")
        return module("samebits.engine.data_loading").make_loader(dataset, trainer=None, **self.options)
