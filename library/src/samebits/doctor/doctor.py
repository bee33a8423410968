"""What would keep a run from being reproduced here, said before anything is trained: `samebits doctor [RUN]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..engine.command_line import LIBRARY_CONFIGS
from ..engine.determinism import VARIABLES, X86, before_torch, supported
from ..engine.errors import UserError
from ..engine.files import SHARED
from ..engine.git_snapshot import READING, NoGit, text
from ..engine.loaded_code import PRELOADED
from ..engine.printing import terminal
from ..engine.project import Project, project
from ..engine.secrets import redact
from . import ATTENTION, OK, PROBLEM, Check
from .packages import Environment, check_packages

LITTLE, NEXT_TO_NOTHING = 10**9, 10**8  # bytes of a disk that are free
LITTLE_SHARED = 2**26  # bytes, what Docker gives a container by itself
CPUINFO = Path("/proc/cpuinfo")
SECONDS = 20  # in which a remote has to answer
COLOURS = {OK: "", ATTENTION: "yellow", PROBLEM: "bold red"}


def main(arguments: argparse.Namespace) -> None:
    """Check, print what was found, and end with 1 where something keeps a run from being reproduced."""
    here = project()
    console = terminal()
    found: list[Check] = []
    section = ""
    for check in all_checks(here, arguments.run, arguments.bytecode, arguments.gpu):
        check = replace(check, found=str(redact(check.found)), mend=here.commands(check.mend))
        found.append(check)
        if arguments.json:
            continue
        if check.section != section:
            section = check.section
            console.print()
            console.print(section, style="bold")
        console.print(f"  {check.mark:<10}{check.what}: {check.found}", style=COLOURS[check.mark])
        if check.mend:
            console.print(f"{'':12}-> {check.mend}")
    problems = [check for check in found if check.mark == PROBLEM]
    if arguments.json:
        print(json.dumps({"problems": len(problems), "checks": [asdict(check) for check in found]}, indent=2))
    else:
        several = f"{len(problems)} of these keep"
        count = several if problems[1:] else "One of these keeps" if problems else "Nothing keeps"
        what = "this run" if arguments.run else "a run"
        console.print()
        console.print(f"{count} {what} from being reproduced here, as far as was looked.")
    raise SystemExit(bool(problems))


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Say what would keep a run from being reproduced here: Python, installed packages and their files,"
        " processor, GPU, disk, variables, Git, DVC remote; with a run, also how all that differs from its record.",
        epilog="Exit status: 0 nothing does, 1 something does, 2 for mistakes. It trains no run: samebits probe does.",
    )
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: none, what holds for any)")
    text = "also compile all that is installed, and compare it with the bytecode that Python runs (a minute or two)"
    described.add_argument("--bytecode", action="store_true", help=text)
    text = "also train two small networks on the GPU, each twice, and compare all bits (half a minute)"
    described.add_argument("--gpu", action="store_true", help=text)
    described.add_argument("--json", action="store_true", help="print what was found as JSON")
    return described


def all_checks(
    here: Project, run: Path | None = None, bytecode: bool = False, trained: bool = False
) -> Iterator[Check]:
    """Check everything, section by section."""
    record: dict[str, Any] | None = None
    if run is not None:
        from ..engine.record import read_finished

        record = read_finished(run)
        before_torch_of(record)  # what PyTorch reads as it is loaded
    environment = Environment.of(here)
    yield from _python(here, environment)
    yield from check_packages(environment, bytecode)
    yield from _computer(here)
    yield from _gpu(environment, trained)
    yield from _variables(here)
    yield from _git(here)
    if not here.adopted:
        yield from _remote()
    if run is not None and record is not None and "torch" in sys.modules:
        from .run import check_run

        yield from check_run(here, run, record)


def before_torch_of(record: dict[str, Any]) -> None:
    """Set the variables that the run's `determinism` pins, as its training did."""
    settings = OmegaConf.create(record["inputs"]["config"]["determinism"])
    if supported(settings):
        before_torch(settings)


def _python(here: Project, environment: Environment) -> Iterator[Check]:
    version, path = platform.python_version(), here.root / ".python-version"
    wanted = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    where = f"{version} in {environment.prefix}"
    if wanted and wanted != version and not version.startswith(f"{wanted}."):
        yield Check("Python", "version", f"{where}, but .python-version says {wanted}", PROBLEM, environment.again)
    else:
        yield Check("Python", "version", where + (f", as .python-version says ({wanted})" if wanted else ""))
    own = here.root / ".venv"
    if "VENV" not in os.environ and (own / ".installed").exists() and own.resolve() != environment.prefix.resolve():
        found = f"this is {environment.prefix}, and make uses {own}"
        yield Check("Python", "environment", found, ATTENTION, f"{own}/bin/python -m samebits doctor")


def portable() -> DictConfig:
    """Read what `determinism=portable` pins."""
    settings = OmegaConf.load(LIBRARY_CONFIGS / "determinism/portable.yaml")
    assert isinstance(settings, DictConfig)
    return settings


def _computer(here: Project) -> Iterator[Check]:
    section, machine = "this computer", platform.machine()
    described = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    flags = re.search(r"(?m)^flags\s*:(.*)", described)
    model = re.search(r"(?m)^model name\s*:\s*(.*)", described)
    name = model[1] if model else platform.processor() or machine
    words = set(flags[1].split()) if flags else set()
    level = "x86-64-v4, AVX-512" if "avx512f" in words else "x86-64-v3, AVX2" if "avx2" in words else "below x86-64-v3"
    if machine not in X86:
        found = f"{name} ({machine}): only this kind of processor gives the bits that it gives"
        yield Check(section, "processor", found, ATTENTION)
    elif words and not supported(portable()):
        found = f"{name} ({level}): without AVX2, no run of determinism=portable can be reproduced"
        yield Check(section, "processor", found, PROBLEM)
    else:
        found = f"{name}{f' ({level})' if words else ''}: determinism=portable gives the bits of every x86-64 with AVX2"
        yield Check(section, "processor", found)
    for what, folder in (("runs", here.runs), ("temporary files", Path(tempfile.gettempdir()))):
        there = next(each for each in (folder, *folder.absolute().parents) if each.is_dir())
        free = shutil.disk_usage(there).free
        mark = PROBLEM if free < NEXT_TO_NOTHING else ATTENTION if free < LITTLE else OK
        found = f"{free / 1e9:.1f} GB free for {what} ({there})"
        yield Check(section, "disk", found, mark, "" if mark == OK else f"make room on the disk of {there}")
    if SHARED.is_dir():
        size = shutil.disk_usage(SHARED)
        found = f"{size.free / 1e6:,.0f} of {size.total / 1e6:,.0f} MB free in {SHARED}, for processes that load data"
        if min(size.total, size.free) <= LITTLE_SHARED:
            mend = f"ls -l {SHARED}; give a container more (--shm-size), or say data.module.num_workers=0"
            yield Check(section, "memory", found, ATTENTION, mend)
        else:
            yield Check(section, "memory", found)


def _gpu(environment: Environment, trained: bool) -> Iterator[Check]:
    section = "GPU"
    try:
        import torch

        from ..engine.environment import DRIVER, gpu

        usable, built = torch.cuda.is_available(), torch.version.cuda
        if usable:
            torch.cuda.init()
            about: Any = gpu()
    except Exception as error:  # of a damaged installation
        found = f"it cannot be imported ({' '.join(str(error).split()) or type(error).__name__})"
        yield Check("packages", "torch", found, PROBLEM, environment.again)
        return
    if usable:
        known = ", ".join(f"{name} {about[name]}" for name in ("driver", "cuda", "cudnn"))
        found = f"{about['model']} ({known}): determinism=gpu gives the bits of this kind and driver"
        yield Check(section, "GPU", found)
        if trained:
            from .gpu import check_gpu

            yield from check_gpu()
    elif trained:
        mend = "nvidia-smi" if built else "make setup ACCELERATOR=cuda"
        yield Check(section, "GPU", "PyTorch finds none, so nothing could be trained on it", PROBLEM, mend)
    elif any(Path(path).exists() for path in DRIVER):
        build = f"for CUDA {built}, which cannot use it" if built else "for CPUs"
        mend = "nvidia-smi" if built else "make setup ACCELERATOR=cuda"
        yield Check(section, "GPU", f"there is a driver, and PyTorch's build is {build}", ATTENTION, mend)
    elif built:
        found = f"none, and PyTorch's build is for CUDA {built}"
        yield Check(section, "GPU", found, ATTENTION, "make setup ACCELERATOR=cpu")
    else:
        yield Check(section, "GPU", "none: runs of determinism=gpu can be reproduced elsewhere only")


def _variables(here: Project) -> Iterator[Check]:
    pinned = portable().env.keys()
    found = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ and name not in pinned]
    paths = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    outside = [each for each in paths if not Path(each).resolve().is_relative_to(here.root.resolve())]
    found += [f"PYTHONPATH={os.pathsep.join(outside)}"] if outside else []
    others = (*PRELOADED, "PYTHONHOME", "PYTHONOPTIMIZE")
    found += [f"{name}={os.environ[name]}" for name in others if os.environ.get(name)]
    for name, each in ((each.partition("=")[0], each) for each in found):
        yield Check("variables", name, f"{each} may change results", ATTENTION, f"unset {name}")
    listed = Path("/etc/ld.so.preload")
    if listed.exists() and (words := listed.read_text().split()):
        yield Check("variables", str(listed), f"{' '.join(words)} is loaded before all other libraries", ATTENTION)
    elif not found:
        yield Check("variables", "set here", "none that is known to change results, but those that determinism pins")


def _git(here: Project) -> Iterator[Check]:
    def ask(*words: str) -> str:
        return text(here.root, *READING, *words)

    try:
        version = ask("--version")
        commit = ask("rev-parse", "--verify", "HEAD")
        if ask("rev-parse", "--is-shallow-repository") == "true":
            found = f"{version}; the clone is shallow: states of the code that runs were trained with may be missing"
            yield Check("Git", "history", found, ATTENTION, "git fetch --unshallow origin '+refs/runs/*:refs/runs/*'")
        else:
            yield Check("Git", "history", f"{version}, at commit {commit[:12]}")
    except NoGit as error:
        reason = str(error).replace("Needed a single revision", "the repository has no commit yet")
        found = f"none ({reason}): the code of a run is known by its hashes alone"
        yield Check("Git", "history", found, ATTENTION, "git init && git add . && git commit -m 'Start the project'")


def _remote() -> Iterator[Check]:
    """Ask the DVC remote; one that does not answer in time is left to its thread."""
    said: list[str] = []
    failed: list[str] = []

    def ask() -> None:
        try:
            from ..share import open_repository

            with open_repository() as (_, address):
                said.append(address)
        except UserError as error:
            failed.append(str(error))
        except Exception as error:  # of a damaged repository, or installation
            failed.append(f"it could not be asked ({type(error).__name__}: {' '.join(str(error).split())})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    late = f"it did not answer within {SECONDS} seconds: look whether the network is there."
    found = f"{said[0]} answers" if said else failed[0] if failed else late
    yield Check("DVC remote", "remote", found, OK if said else ATTENTION)
