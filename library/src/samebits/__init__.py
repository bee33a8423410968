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
    from .engine.inputs import write_dataset
    from .engine.project import project
    from .engine.randomness import SampleRandom
    from .engine.run_loader import SavedRun, load
    from .engine.trace_writer import TraceWriter
    from .report.figures import Panel
    from .report.runs import read_run
    from .run import Run, main, stage

# each public name, and the module that defines it
PUBLIC = {
    "main": "run",
    "stage": "run",
    "command": "engine.command_line",
    "write_dataset": "engine.inputs",
    "Run": "run",
    "load": "engine.run_loader",
    "SavedRun": "engine.run_loader",
    "compose": "engine.config",
    "project": "engine.project",
    "make_loader": "engine.data_loading",
    "SampleRandom": "engine.randomness",
    "Panel": "report.figures",
    "read_run": "report.runs",
    "BestWeights": "engine.callbacks",
    "Predictions": "engine.callbacks",
    "ExactResume": "engine.checkpoint",
    "TraceWriter": "engine.trace_writer",
    "UserError": "engine.errors",
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
        value = getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)
        globals()[name] = value
        return value
