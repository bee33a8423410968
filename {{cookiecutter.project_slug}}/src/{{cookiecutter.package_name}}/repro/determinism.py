"""Pins what would otherwise vary between two runs with the same inputs."""

from __future__ import annotations

import os

from omegaconf import DictConfig


def before_torch(determinism: DictConfig) -> None:
    """Set the environment variables that PyTorch and its libraries read once, when they are loaded."""
    os.environ.update({name: str(value) for name, value in determinism.env.items()})


def pin_threads(determinism: DictConfig) -> None:
    """Set the number of threads, for a process that has loaded PyTorch already."""
    import torch

    if determinism.threads is not None:
        torch.set_num_threads(determinism.threads)


def after_torch(determinism: DictConfig, seed: int) -> None:
    """Set the number of threads, and seed the global generators of Python, NumPy and PyTorch; 0 is a seed."""
    from pytorch_lightning import seed_everything

    pin_threads(determinism)
    if determinism.enabled:
        seed_everything(seed, workers=True, verbose=False)
    else:
        print("determinism=off: nothing is pinned, so another run with the same inputs may give other weights.")
