"""Faults in the code, in what Git keeps of it, and in the machine."""

from __future__ import annotations

import shutil
import subprocess

from .cases_inputs import SAME
from .planted import (
    ENVIRONMENT,
    IDENTICAL,
    INPUTS,
    LAYERS,
    NETWORK,
    REFUSED,
    TAMPERED,
    Case,
    Place,
    Variant,
    both,
    edit,
    nothing,
    write,
)

RECORDED = ("--code", "recorded")
GELU = edit(LAYERS, "nn.ReLU()", "nn.GELU()")
EVALUATE, PREDICT = "src/dummy/evaluate.py", "src/dummy/predict.py"


def undo(place: Place) -> None:
    """Go back to what is committed."""
    place.git("checkout", "--quiet", ".")


def forget(place: Place) -> None:
    """Have Git keep nothing of the run but its commit."""
    undo(place)
    place.git("update-ref", "-d", f"refs/runs/{place.name}")
    place.git("reflog", "expire", "--expire=now", "--all")
    place.git("gc", "--quiet", "--prune=now")


def another_repository(place: Place) -> None:
    undo(place)
    shutil.rmtree(place.path / ".git")
    place.git("init", "--quiet")
    place.git("add", "--all")
    place.git("commit", "--quiet", "--message=anew")


def without_git(place: Place) -> None:
    shutil.rmtree(place.path / ".git")


def clone(place: Place) -> None:
    """Clone the project to another place, with the run and the data, and without what Git keeps of runs."""
    target = place.path.parent / "copy cloned" / "else"
    subprocess.run(["git", "clone", "--quiet", place.path, target], check=True)
    shutil.copytree(place.path / "data", target / "data", dirs_exist_ok=True)
    shutil.copytree(place.run, target / "models" / place.name)
    shutil.copy(place.path / "dvc.lock", target)
    place.path = target


def later(place: Place) -> None:
    """Commit what says nothing of the run."""
    place.write("README.md", "# Of a dummy\n")
    place.git("add", "--all")
    place.git("commit", "--quiet", "--message=third")


def nested(place: Place) -> None:
    """Keep a repository without a commit in a folder of the code, besides an edit."""
    GELU(place)
    place.write("src/dummy/old/notes.py", "X = 1\n")
    subprocess.run(["git", "init", "--quiet"], cwd=place.path / "src/dummy/old", check=True)


def filtered(place: Place) -> None:
    """Have Git ask a program that is not installed for some files, besides an edit."""
    GELU(place)
    place.git("config", "filter.large.clean", "no-such-program")
    place.git("config", "filter.large.required", "true")
    place.write(".gitattributes", "*.large filter=large\n")
    place.write("notes/a.large", "1")


def one_core(place: Place) -> None:
    place.prefix = ("taskset", "--cpu-list", "0")


def old_processor(place: Place) -> None:
    place.environment["ATEN_CPU_CAPABILITY"] = "default"


def many(place: Place) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    place.environment |= dict.fromkeys(names, "4") | {"OMP_DYNAMIC": "TRUE", "MKL_CBWR": "AVX2"}


def gone(name: str):  # type: ignore[no-untyped-def]
    return lambda place: (place.path / name).unlink()


def other_seed_code(place: Place) -> None:
    first = '    datamodule = run.instantiate("data.module")'
    place.edit("src/dummy/train.py", first, f"    import torch\n\n    torch.manual_seed(5)\n{first}")


VARIANTS = {
    "dirty": Variant(dirty=GELU),
    "nested": Variant(dirty=nested),
    "filtered": Variant(dirty=filtered),
    "strange": Variant(dirty=GELU, words=("run_name=debug-the..best.lock",)),
    "no git": Variant(dirty=without_git),
    "off": Variant(words=("determinism=off",)),
}
CODE = f"code {LAYERS.removeprefix('src/')}"
CASES = [
    # --- code
    Case("code", "another activation", GELU, INPUTS, (CODE, "+            nn.GELU(),", "step 1, in the loss"),
         quick=True),
    Case("code", "another seed by a call, which the run's seed overrides", other_seed_code, IDENTICAL,
         ("code dummy/train.py", "the change does not alter the results")),
    Case("code", "another clipping of gradients", edit(NETWORK, "        return loss\n",
         "        return loss.clamp(max=1.0)\n"), INPUTS, (f"code {NETWORK.removeprefix('src/')}", "clamp(max=1.0)")),
    Case("code", "a file that ends in the middle", edit(LAYERS, "return scores", "return ("), INPUTS,
         (CODE, "training with them fails", "SyntaxError")),
    Case("code", "a file that is gone", gone(LAYERS), INPUTS, (CODE, "—", "No module named 'dummy.models.network'")),
    Case("code", "a module more, which changes what is there", both(write("src/dummy/models/extra.py",
         "import torch\n\ntorch.nn.ReLU.forward = lambda self, x: x\n"), edit(NETWORK, "from torch import nn\n",
         "from torch import nn\n\nfrom . import extra  # noqa: F401\n")), INPUTS, ("code dummy/models/extra.py", "—")),
    Case("code", "words and spaces", edit(LAYERS, '"""The layers.', '"""These are layers. '), IDENTICAL,
         (SAME, CODE, "does not alter the results"), quick=True),
    Case("code", "files that no training imports", both(edit(EVALUATE, "import json\n", "import json\n\nX = 1\n"),
         gone(PREDICT)), IDENTICAL, (SAME,), ("code dummy",)),
    Case("code", "a lock that was not there", write("requirements/main.txt", "numpy==2.0\n"), IDENTICAL,
         (SAME, "lock main.txt")),
    # --- the code's state
    Case("code's state", "an edit that was never committed, undone", undo, INPUTS, (CODE, "-            nn.GELU(),"),
         of="dirty"),
    Case("code's state", "a patch that was edited", edit("RUN/code.patch", "nn.GELU", "nn.SiLU"), TAMPERED,
         ("code.patch was edited after the run",), of="dirty", quick=True),
    Case("code's state", "a patch that is gone", lambda place: (place.run / "code.patch").unlink(), TAMPERED,
         ("code.patch is missing, though the record says that the code differed",), of="dirty"),
    Case("code's state", "a repository of another history", another_repository, REFUSED,
         ("is not in this repository", "CODE="), of="dirty", options=RECORDED),
    Case("code's state", "trained without Git, then edited", GELU, INPUTS, (CODE, "no diff"), of="no git"),
    Case("code's state", "trained without Git, then edited: its code", GELU, REFUSED, ("was kept nowhere",),
         of="no git",
         options=RECORDED),
    Case("code's state", "an edit that was never committed, undone: its code", undo, IDENTICAL, (SAME,), of="dirty",
         options=RECORDED, quick=True),
    Case("code's state", "the commit and the patch alone: its code", forget, IDENTICAL, (SAME,), of="dirty",
         options=RECORDED),
    Case("code's state", "a repository within, without a commit: its code", undo, IDENTICAL, (SAME,), of="nested",
         options=RECORDED),
    Case("code's state", "a filter that is not installed: its code", lambda place: shutil.copy(
         place.path.parent / "base" / LAYERS, place.path / LAYERS), IDENTICAL, (SAME,), of="filtered",
         options=RECORDED),
    Case("code's state", "a name that is none for Git: its code", undo, IDENTICAL, (SAME,), of="strange",
         options=RECORDED),
    Case("code's state", "trained without Git: its code", nothing, IDENTICAL, (SAME,), of="no git", options=RECORDED),
    Case("code's state", "a clone elsewhere", clone, IDENTICAL, (SAME,), ("stage",)),
    Case("code's state", "a later commit", later, IDENTICAL, (SAME,), ("code ",)),
    # --- the machine
    Case("threads", "one core instead of two", one_core, ENVIRONMENT, ("threads.operations",), of="off"),
    Case("threads", "instructions of an old processor", old_processor, ENVIRONMENT, ("processor.model", "(DEFAULT)"),
         of="off"),
    Case("threads", "one core, where threads are pinned", one_core, IDENTICAL, (SAME,), ("threads.",)),
    Case("threads", "variables that are pinned", both(many, old_processor), IDENTICAL, (SAME,), ("threads.",
         "variables.OMP_NUM", "variables.MKL", "variables.OPENBLAS")),
]  # fmt: skip
