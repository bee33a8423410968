"""What `determinism=portable` costs against `native`, as a ratio within one run.

`python bench/portable.py PROJECT` works in a generated project that has been set up. For each network the two modes
take turns, each time in a process of its own, and what is printed is the median of the ratios.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

from turns import medians, ratio, take_turns

NETWORKS = {
    "CNN, 0.04 M weights": ("model=cnn",),
    "CNN, 0.14 M weights": ("experiment=wide",),
    "CNN, 1.1 M weights": ("model=cnn", "model.network.channels=[256,256]", "model.network.hidden=512"),
    "MLP, 0.03 M weights": ("model=mlp",),
    "MLP, 1.1 M weights": ("model=mlp", "model.network.hidden=[1024,1024]"),
    "transformer, 0.02 M weights": (
        "model=mlp",
        "model.network._target_=tests.networks.Transformer",
        "model.network.hidden=[32,64]",
    ),
}

# Runs in the project's own Python: steps of a training, without Lightning, on one batch in memory
STEPS = """
import sys, time
from handwritten_digits.config import compose
from handwritten_digits.repro import determinism
cfg = compose(sys.argv[1:])
determinism.before_torch(cfg.determinism)
from handwritten_digits.build import build
import torch
determinism.after_torch(cfg.determinism)
torch.manual_seed(0)
model = build(cfg, "model")
optimizer = model.make_optimizer(model.network.parameters())
images, labels = torch.rand(cfg.data.module.batch_size, 1, 8, 8), torch.randint(10, (cfg.data.module.batch_size,))
def step():
    optimizer.zero_grad()
    model.loss(model(images), labels).backward()
    optimizer.step()
for _ in range(20):
    step()
steps, begin = 0, time.perf_counter()
while time.perf_counter() - begin < 2:
    step()
    steps += 1
print(1000 * (time.perf_counter() - begin) / steps)
"""


def milliseconds(project: Path, overrides: tuple[str, ...], mode: str) -> float:
    """Measure a step."""
    words = [".venv/bin/python", "-c", STEPS, *overrides, f"determinism={mode}"]
    done = subprocess.run(words, cwd=project, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project", type=Path, help="a generated project that has been set up")
    parser.add_argument("--rounds", type=int, default=5, help="how often the two take turns (5)")
    arguments = parser.parse_args()
    print(f"{'one step, batch 32, one thread':<32}{'native':>10}{'portable':>10}   ratio (least to most)")
    for name, overrides in NETWORKS.items():
        measure = partial(milliseconds, arguments.project.resolve(), overrides)
        times = take_turns(measure, ("native", "portable"), arguments.rounds)
        native, portable = medians(times)
        print(f"{name:<32}{native:>7.2f} ms{portable:>7.2f} ms   {ratio(times, digits=2)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
