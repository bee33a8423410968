"""The process that predicts: `python -m samebits.service.worker RUN`; a line of JSON is a request, and so is an answer.

It calls the project's own `predict` in the first thread of a process of its own, a request at a time and by itself, as
predict.py does: in another thread, or in a batch with other requests, the same sample may have other last bits.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import UserError
from ..engine.printing import printable
from ..engine.project import project
from ..engine.record import WEIGHTS
from ..engine.run_loader import SavedRun, load
from ..engine.weights import digests

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

OPTIONS = ("bool", "int", "float")  # types of arguments that a stranger may set: none that could name a file
FORMATS = {"PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"}  # Pillow reads forty more, some by starting other programs
MOST_PIXELS = 2**24  # of an image: some bytes can say that they are gigabytes
MOST_MEMORY = 2**32  # bytes, beyond what the process has when the model is loaded


@dataclass(frozen=True)
class LoadedRun(SavedRun):
    """A run whose model stays loaded, from request to request."""

    loaded: LightningModule

    def model(self) -> LightningModule:
        """Return the model."""
        return self.loaded


def describe(module: Any) -> dict[str, Any]:
    """Say what `predict` of the project's predict.py is given, by its signature.

    Returns:
        file: what is in the file that it reads, in words; None where it reads none. options: its other arguments, type
        and default of each; those that could name a file are not for strangers.
    """
    parameters = inspect.signature(module.predict).parameters
    if "run" not in parameters:
        raise UserError(f"{module.__name__}.predict has no argument `run`: give it one, for samebits.load().")
    options = {}
    for name, each in parameters.items():
        kind = each.annotation if isinstance(each.annotation, str) else getattr(each.annotation, "__name__", "")
        if kind in OPTIONS:
            options[name] = {"type": kind} | ({} if each.default is each.empty else {"default": each.default})
    return {"file": getattr(module, "FILE", "a file") if "path" in parameters else None, "options": options}


def restrict() -> None:
    """Take from this process what only an attack needs: rare kinds of images, huge ones, all of the memory."""
    with suppress(ImportError):
        from PIL import Image

        Image.init()
        Image.ID[:] = [name for name in Image.ID if name in FORMATS]
        Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # it warns of more, and refuses twice as many
    with suppress(ImportError, OSError, ValueError):  # where there is no such limit
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MOST_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def answer(module: Any, run: LoadedRun, request: dict[str, Any]) -> str:
    """Predict, and write the answer as JSON, or in one sentence why there is none."""
    path = {"path": Path(request["path"])} if request["path"] else {}
    try:
        found = module.predict(**path, run=run, **request["options"])
    except UserError as error:
        return json.dumps({"error": str(error)})
    except Exception as error:  # of the project's code, which may raise anything on what it did not expect
        print(printable(traceback.format_exc(), lines=True), file=sys.stderr)  # it may quote the input
        return json.dumps({"error": f"{request['path'] or 'this'} could not be used ({type(error).__name__})."})
    try:
        return json.dumps({"answer": found}, allow_nan=False, default=lambda array: array.tolist())
    except ValueError:
        return json.dumps({"error": f"{request['path'] or 'this'} leads to a number that is infinite, or none (NaN)."})


def main() -> None:
    """Load the run, say what is asked for, then answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the project's code prints is no answer
    try:
        sys.path.append(str(project().source))
        module = import_module(f"{project().name}.predict")
        saved, said = load(Path(sys.argv[1])), describe(module)
        run = LoadedRun(saved.directory, saved.cfg, saved.root, saved.model())
        said["weights"] = digests((saved.directory / WEIGHTS).read_bytes())[0]
    except (UserError, ImportError) as error:
        print(json.dumps({"error": str(error)}), file=answers, flush=True)
        return
    restrict()
    print(json.dumps(said), file=answers, flush=True)
    for line in sys.stdin:
        print(answer(module, run, json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
