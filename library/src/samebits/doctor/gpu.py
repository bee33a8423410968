"""Whether a GPU gives the same bits twice: `samebits doctor --gpu` trains two small networks, each in two processes.

`python -m samebits.doctor.gpu DEVICE` is such a process; it prints a digest of what each network has become.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from ..engine.command_line import LIBRARY_CONFIGS
from ..engine.determinism import after_torch, before_torch
from . import OK, PROBLEM, Check

if TYPE_CHECKING:
    import torch

PROGRAM = ("-m", __name__)
SECONDS = 180  # in which a process has to end
STEPS, SAMPLES, SIDE, CLASSES = 30, 64, 32, 10


def check_gpu(device: str = "cuda") -> Iterator[Check]:
    """Train the networks twice, and compare all bits; on the CPU, which is its rehearsal, likewise."""
    section, about = "GPU", "dropout, bfloat16, determinism=gpu"
    try:
        first, second = (_in_a_process(device) for _ in range(2))
    except ValueError as error:
        yield Check(section, "trainings", f"they did not end well: {error}", PROBLEM, "nvidia-smi -q")
        return
    for name, digest in first.items():
        if digest == second.get(name):
            yield Check(section, name, f"trained twice, with the same bits ({about}; {digest[:12]})", OK)
        else:
            found = f"trained twice, with other bits the second time ({about}): nothing trained here can be reproduced"
            yield Check(section, name, found, PROBLEM, "nvidia-smi -q -d ECC,PAGE_RETIREMENT,ROW_REMAPPER")


def _in_a_process(device: str) -> dict[str, str]:
    """Train in a process of its own; a ValueError says why it ended otherwise."""
    try:
        done = subprocess.run([sys.executable, *PROGRAM, device], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"no end within {SECONDS} seconds") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ValueError(said[-1] if said else f"status {done.returncode}")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def pinned() -> DictConfig:
    """Read what `determinism=gpu` pins."""
    files = (OmegaConf.load(LIBRARY_CONFIGS / f"determinism/{name}.yaml") for name in ("native", "gpu"))
    settings = OmegaConf.create({"determinism": OmegaConf.merge(*files)}).determinism
    assert isinstance(settings, DictConfig)
    return settings


def networks() -> Iterator[tuple[str, torch.nn.Module]]:
    """Make both networks: (SAMPLES, 1, SIDE, SIDE) → (SAMPLES, CLASSES)."""
    from torch import nn

    class Mean(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features.flatten(2).mean(dim=2)

    convolutions = (nn.Conv2d(1, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU())
    yield "convolutional network", nn.Sequential(*convolutions, Mean(), nn.Dropout(0.2), nn.Linear(32, CLASSES))
    layer = nn.TransformerEncoderLayer(SIDE, 4, 4 * SIDE, dropout=0.1, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    yield "transformer", nn.Sequential(nn.Flatten(1, 2), encoder, nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES))


def main(device: str) -> None:
    """Train both networks from a seed, on noise, and print the digest of each."""
    settings = pinned()
    before_torch(settings)
    import torch

    from ..engine.fingerprint import add_tensors

    after_torch(settings)
    torch.manual_seed(0)
    images = torch.randn(SAMPLES, 1, SIDE, SIDE).to(device)
    labels = (torch.arange(SAMPLES) % CLASSES).to(device)
    found = {}
    for name, network in networks():
        network.to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        for _ in range(STEPS):
            with torch.autocast(device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if not torch.isfinite(loss):
            raise SystemExit(f"the loss of the {name} is {loss.item()}")
        sha256 = hashlib.sha256()
        add_tensors(sha256, [tensor.cpu() for tensor in network.state_dict().values()])
        found[name] = sha256.hexdigest()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
