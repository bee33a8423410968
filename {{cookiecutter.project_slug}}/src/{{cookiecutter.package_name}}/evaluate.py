"""Measure a run's weights again, on the CPU: `python -m <package>.evaluate [RUN]`, or `make evaluate [RUN=...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .cli import run_with_arguments
from .config import ROOT
from .data.prepared import require_prepared
from .repro.inputs import data_sha256
from .repro.run import write_metrics
from .saved import MAIN, load_model, read_config, warn_of_changes


def evaluate(run: Path, root: Path = ROOT) -> dict[str, float]:
    """Compute the validation and test metrics of the weights in `run`, with the settings in its own config.yaml.

    Args:
        run: folder with config.yaml and model.safetensors.
        root: folder of the project whose data is read.

    Raises:
        UserError: a file of the run is missing or damaged, or the data on disk is not what the run was trained on.
    """
    cfg = read_config(run, root)
    require_prepared(cfg)
    model, run_id = load_model(run, cfg)
    warn_of_changes(run, "data", data_sha256(Path(cfg.paths.processed)))
    from .build import build
    from .trainer import evaluation_trainer, measure

    print(f"weights of {run_id}")
    return measure(evaluation_trainer(cfg), model, build(cfg, "data.module"))


def main(arguments: argparse.Namespace) -> None:
    """Print the metrics, and write them where asked."""
    metrics = evaluate(arguments.run)
    for name, value in metrics.items():
        print(f"{name:<14}{value:.4f}")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        write_metrics(arguments.output, metrics)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m <package>.evaluate", description=__doc__.split(":")[0])
    described.add_argument("run", nargs="?", type=Path, default=MAIN, help="folder of a run (default: models/main)")
    described.add_argument("--output", type=Path, metavar="JSON", help="also write the metrics to this file")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
