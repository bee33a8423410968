"""samebits: same inputs, same bits.

Makes a Hydra and Lightning training a pure function of its inputs, records it, and trains the record again for a
verdict. The public interface is loaded when it is asked for: PyTorch has to find its environment set.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .engine import __version__ as __version__

if TYPE_CHECKING:
    from .engine.callbacks import BestWeights, Predictions
    from .engine.checkpoint import ExactResume
    from .engine.command_line import command
    from .engine.config import compose
    from .engine.data_loading import make_loader
    from .engine.errors import UserError
    from .engine.folds import fold_dataset, fold_indices
    from .engine.inputs import write_dataset
    from .engine.project import project
    from .engine.randomness import SampleRandom
    from .engine.run_loader import SavedRun, load
    from .engine.trace_writer import TraceWriter
    from .report.figures import Panel
    from .report.runs import read_run
    from .run import Run, main, stage

PUBLIC = {  # each public name, and the module that defines it
    name: module
    for module, names in {
        "run": "Run main stage",
        "engine.callbacks": "BestWeights Predictions",
        "engine.checkpoint": "ExactResume",
        "engine.command_line": "command",
        "engine.config": "compose",
        "engine.data_loading": "make_loader",
        "engine.errors": "UserError",
        "engine.folds": "fold_dataset fold_indices",
        "engine.inputs": "write_dataset",
        "engine.project": "project",
        "engine.randomness": "SampleRandom",
        "engine.run_loader": "SavedRun load",
        "engine.trace_writer": "TraceWriter",
        "report.figures": "Panel",
        "report.runs": "read_run",
    }.items()
    for name in names.split()
}
__all__ = [
    "BestWeights",
    "ExactResume",
    "Panel",
    "Predictions",
    "Run",
    "SampleRandom",
    "SavedRun",
    "TraceWriter",
    "UserError",
    "command",
    "compose",
    "fold_dataset",
    "fold_indices",
    "load",
    "main",
    "make_loader",
    "project",
    "read_run",
    "stage",
    "write_dataset",
]

if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> Any:
        if name not in PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name))
