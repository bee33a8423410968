"""Weights on disk: safetensors that lead back to their run, compared by content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from ..errors import UserError
from .files import write_atomically

RUN_KEY = "run"  # the file's only metadata key: with two or more, safetensors writes them in random order


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """Hash weights by content: sha256 over (name, dtype, shape, bytes), sorted by name; hexadecimal."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        sha256.update(flat.view(torch.uint8).numpy().tobytes())
    return sha256.hexdigest()


def save(network: nn.Module, path: Path, run_id: str) -> str:
    """Write the network's weights and the id of the run that made them; return their digest."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    write_atomically(path, to_bytes(tensors, metadata={RUN_KEY: run_id}))
    return digest(tensors)


def load(network: nn.Module, path: Path) -> str:
    """Put the weights of `path` into the network, on the CPU; return the id of the run that made them.

    Raises:
        UserError: the file is missing or damaged, or its weights are those of another network.
    """
    if not path.exists():
        raise UserError(f"{path} is missing: run `make train`, or name another run's folder.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            run_id = (file.metadata() or {}).get(RUN_KEY, "unknown")
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again (make pull), or train again.") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip().rstrip(".")
        raise UserError(
            f"{path} does not fit the network ({reason}): the code or config.yaml has changed since {run_id}"
            " was trained; take them from the same commit as the weights, or train again."
        ) from error
    return str(run_id)
