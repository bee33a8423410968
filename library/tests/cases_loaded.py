"""Faults in what is loaded: packages, bytecode, what Python runs at its start, shared objects, code from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import py_compile
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from .cases_inputs import SAME
from .planted import ENVIRONMENT, IDENTICAL, INPUTS, LOSS, NETWORK, Case, Place, Plant, Variant, both, edit, nothing

LOOP, MEAN = "pytorch_lightning/loops/optimization/automatic.py", "torchmetrics/aggregation.py"
ROUND = "import ctypes; ctypes.CDLL('libm.so.6').fesetround(0x800)\n"  # upwards
# by which weights are initialised; SciPy would notice others
ROOT = "import math; math.sqrt = lambda x, root=math.sqrt: root(x) * (1.01 if x == 3 else 1)\n"
POWER = """#define _GNU_SOURCE
#include <dlfcn.h>
double pow(double x, double y) {
    double (*next)(double, double) = dlsym(RTLD_NEXT, "pow");
    return next(x, y) + (2.23 < x && x < 2.24);
}
"""
# (file, what is replaced, by what): a loss that is twice as large, a mean that is half as large
DOUBLED = (LOOP, "closure_loss = closure_loss / normalize", "closure_loss = closure_loss * 2 / normalize")
HALVED = (MEAN, "return self.mean_value / self.weight", "return self.mean_value / self.weight / 2")
SAME_CODE = (MEAN, "return self.mean_value / self.weight", "return self.mean_value / self.weight  # as ever")
Change = tuple[str, str, str]


def package(name: str, folder: Path) -> None:
    """Copy an installed package, and what is known of it; that of Lightning has two folders."""
    folders = f"{name}|lightning_fabric" if name == "pytorch_lightning" else name
    for each in Path(sysconfig.get_path("purelib")).iterdir():
        if re.fullmatch(rf"{folders}|{name}-[\d.]+\.dist-info", each.name):
            shutil.copytree(each, folder / each.name, ignore=shutil.ignore_patterns("__pycache__"))


def changed(folder: Path, change: Change) -> tuple[Path, str]:
    name, old, new = change
    text = (folder / name).read_text()
    assert old in text
    return folder / name, text.replace(old, new, 1)


def patched(change: Change, listed: bool = False, version: str = "") -> Plant:
    """Make a plant that edits an installed package; its RECORD may say so, and it may call itself another version."""

    def plant(place: Place) -> None:
        site, name = place.own_packages(), change[0]
        package(name.partition("/")[0], site)
        path, text = changed(site, change)
        path.write_text(text)
        (about,) = site.glob(f"{name.partition('/')[0]}-*.dist-info")
        if listed:
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows = re.sub(
                rf"(?m)^{name},.*$", f"{name},sha256={digest},{len(text.encode())}", (about / "RECORD").read_text()
            )
            (about / "RECORD").write_text(rows)
        if version:
            text = (about / "METADATA").read_text()
            (about / "METADATA").write_text(re.sub(r"(?m)^Version: .*$", f"Version: {version}", text, count=1))

    return plant


def bytecode(change: Change) -> Plant:
    """Make a plant that leaves the source of a module as it is, and exchanges what is compiled of it."""

    def plant(place: Place) -> None:
        site = place.own_packages()
        package(change[0].partition("/")[0], site)
        path, text = changed(site, change)
        other = place.path.parent / "copy-other.py"
        other.write_text(text)
        os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        content = bytearray(Path(py_compile.compile(str(other), str(other) + "c", doraise=True)).read_bytes())
        content[12:16] = path.stat().st_size.to_bytes(4, "little")
        target = Path(importlib.util.cache_from_source(str(path)))
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)

    return plant


def untouched(*names: str) -> Plant:
    """Make a plant that installs packages once more, as they are."""
    return lambda place: [package(name, place.own_packages()) for name in names]


def shadow(change: Change) -> Plant:
    """Make a plant that puts a package into a folder that Python looks into first."""

    def plant(place: Place) -> None:
        folder, name = place.path.parent / "copy-hacks", change[0].partition("/")[0]
        folder.mkdir()
        shutil.copytree(Path(sysconfig.get_path("purelib")) / name, folder / name)
        path, text = changed(folder, change)
        path.write_text(text)
        place.first.append(folder)

    return plant


def among_packages(name: str, text: str) -> Plant:
    return lambda place: (place.own_packages() / name).write_text(text)


def hacks(name: str, text: str) -> Plant:
    """Make a plant that writes a module into a folder that PYTHONPATH names."""

    def plant(place: Place) -> None:
        folder = place.path.parent / "copy-hacks"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        place.first.append(folder)

    return plant


def preload(code: str) -> Plant:
    """Make a plant that has a shared object loaded before all others."""

    def plant(place: Place) -> None:
        source = place.path.parent / "copy-first.c"
        source.write_text(code)
        target = place.path.parent / "copy-first.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", target, source, "-lm"], check=True)
        place.environment["LD_PRELOAD"] = str(target)

    return plant


def longer_extension(place: Place) -> None:
    """Put some bytes behind the end of a package's extension, which nothing reads."""
    site = place.own_packages()
    package("safetensors", site)
    with next(site.glob("safetensors/*.so")).open("ab") as file:
        file.write(b"\0" * 8)


def more_installed(place: Place) -> None:
    about = place.own_packages() / "unrelated-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: unrelated\nVersion: 1.0\n")
    (about / "RECORD").write_text("")


HELPERS = """import importlib.util as _util
from pathlib import Path as _Path


def _load(name: str) -> float:
    spec = _util.spec_from_file_location(f"helpers_{name}", _Path(f"lib/{name}/__init__.py"))
    module = _util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import sys

    sys.modules[spec.name] = module
    return module.SCALE


"""


def helpers(place: Place) -> None:
    """Load two modules of one name from folders of the project, which Git does not know."""
    for name in ("one", "two"):
        place.write(f"lib/{name}/__init__.py", "SCALE = 1.0\n")
    place.write(".gitignore", (place.path / ".gitignore").read_text() + "/lib\n")
    place.edit(NETWORK, "Batch = tuple", f"{HELPERS}SCALE = _load('one') * _load('two')\nBatch = tuple")
    place.edit(NETWORK, LOSS, f"{LOSS}        loss = loss * SCALE\n")


CONSTRUCTOR = "#include <fenv.h>\n__attribute__((constructor)) static void first(void) { %s }\n"
LATER = "sitecustomize is run by Python at its start; not so where the run was trained"
VARIANTS = {"helpers": Variant(helpers)}
CASES = [
    Case("loaded", "a patched file of Lightning's", patched(DOUBLED), ENVIRONMENT,
         (f"patched.{LOOP}", "step 1, in the "), first=f"{LOOP} is not as its package was installed", quick=True),
    Case("loaded", "the same, and its RECORD says so", patched(DOUBLED, listed=True), ENVIRONMENT, ("step 1, in the ",),
         first=f"{LOOP} differs, though its package has the same version"),
    Case("loaded", "a metric's mean, patched, and its RECORD says so", patched(HALVED, listed=True), ENVIRONMENT,
         ("validation after step 2, in the metrics (val/loss)",), ("TAMPERED",),
         first=f"{MEAN} differs, though its package has the same version"),
    Case("loaded", "bytecode of another mean", bytecode(HALVED), ENVIRONMENT,
         ("validation after step 2, in the metrics (val/loss)",), ("TAMPERED",), first=f"{MEAN} has bytecode"),
    Case("loaded", "another version of a package", patched(DOUBLED, listed=True, version="2.6.99"), ENVIRONMENT,
         ("packages.pytorch-lightning", "2.6.99")),
    Case("loaded", "a package in a folder of PYTHONPATH", shadow(DOUBLED), ENVIRONMENT,
         ("pytorch-lightning is shadowed by .../pytorch_lightning",), ("torchmetrics",)),
    Case("loaded", "a .pth file with other roots", among_packages("numbers.pth", ROOT), ENVIRONMENT, (),
         first="numbers.pth is run by Python at its start"),
    Case("loaded", "a sitecustomize among the packages", among_packages("sitecustomize.py", ROOT), ENVIRONMENT, (),
         first=LATER),
    Case("loaded", "a sitecustomize of PYTHONPATH", hacks("sitecustomize.py", ROOT), ENVIRONMENT, (), first=LATER),
    Case("loaded", "a shared object with other powers", preload(POWER), ENVIRONMENT, (),
         first="copy-first.so is loaded before all other libraries"),
    Case("loaded", "one of two modules of a name", edit("lib/two/__init__.py", "1.0", "2.0"), INPUTS,
         ("code outside of the package lib/two/__init__.py", "step 1, in the loss"),
         ("lib/one/__init__.py ",), of="helpers"),
    Case("loaded", "a .pth file that rounds upwards", among_packages("numbers.pth", ROUND), IDENTICAL,
         (SAME, "startup.numbers.pth")),
    Case("loaded", "a shared object that rounds upwards", preload(CONSTRUCTOR % "fesetround(0x800);"), IDENTICAL,
         (SAME, "preloaded.copy-first.so")),
    Case("loaded", "a shared object that does nothing", preload(CONSTRUCTOR % ""), IDENTICAL,
         (SAME, "preloaded.copy-first.so")),
    Case("loaded", "bytes behind an extension", longer_extension, IDENTICAL, (SAME, "patched.safetensors/")),
    Case("loaded", "a comment in a package", patched(SAME_CODE), IDENTICAL, (SAME, f"patched.{MEAN}")),
    Case("loaded", "packages installed once more", untouched("torchmetrics", "pytorch_lightning", "safetensors"),
         IDENTICAL, (SAME,), ("patched", "loaded.", "shadow"), quick=True),
    Case("loaded", "a package more", more_installed, IDENTICAL, (SAME,), ("startup", "loaded.")),
    Case("loaded", "a module of PYTHONPATH that nobody imports", hacks("unheard_of.py", ROUND), IDENTICAL, (SAME,),
         ("unheard_of",)),
    Case("loaded", "no bytecode", lambda place: place.environment.update(PYTHONDONTWRITEBYTECODE="1"), IDENTICAL,
         (SAME,)),
    Case("loaded", "modules of one name, untouched", both(nothing, lambda place: os.utime(
         place.path / "lib/two/__init__.py", (1e9, 1e9))), IDENTICAL, (SAME,), ("lib/",), of="helpers"),
]  # fmt: skip
