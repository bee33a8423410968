"""Prints the milliseconds of a step on one batch in memory, without Lightning: `step.py [override ...]`."""

from __future__ import annotations

import sys
import time

from samebits.engine import determinism
from samebits.engine.config import compose

WARM, SECONDS = 20, 2.0  # steps that do not count, then steps for so long
cfg = compose(sys.argv[1:])
determinism.before_torch(cfg.determinism)

import torch  # noqa: E402 # it is loaded in the environment that was pinned
from samebits.engine.config import instantiate  # noqa: E402

determinism.after_torch(cfg.determinism)
torch.manual_seed(0)
model = instantiate(cfg, "model")
optimizer = model.make_optimizer(model.network.parameters())
images, labels = torch.rand(cfg.data.module.batch_size, 1, 8, 8), torch.randint(10, (cfg.data.module.batch_size,))


def step() -> None:
    """Take one."""
    optimizer.zero_grad()
    model.loss(model(images), labels).backward()
    optimizer.step()


for _ in range(WARM):
    step()
steps, begin = 0, time.perf_counter()
while time.perf_counter() - begin < SECONDS:
    step()
    steps += 1
print(1000 * (time.perf_counter() - begin) / steps)
