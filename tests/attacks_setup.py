"""Attacks on `make setup`: cut off at every step and at random instants, twice at once, no network, a full disk.

The packages of most are stand-ins. Of the real ones, thirty are interruptions of real installations, each followed by
a real training (2 GB in the folder for temporary files).
"""

from __future__ import annotations

import atexit
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache, partial
from pathlib import Path

from .attack import Attack
from .baking import TEMPLATE, bake

SCRIPT = f"""#!/bin/sh
exec "{sys.executable}" -I -S "{TEMPLATE}/tests/stand_ins.py" "$0" "$@"
"""
EVIL = """#!/bin/sh
touch "$EVIL"
"""
STEPS = 25  # of a first installation, by tests/stand_ins.py
FETCHING = 11  # and those before it, where the project's Python has to be fetched
KIND = "make setup"
SECONDS = 120  # after which a command hangs


@cache
def generated() -> Path:
    """Generate a project once; it is only copied."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return bake(folder / "out").project


class Setup:
    """A fresh project in a folder, with stand-ins before everything else in the PATH."""

    def __init__(self, folder: Path, real: bool = False) -> None:
        self.path = Path(shutil.copytree(generated(), folder / "project", symlinks=True))
        self.counter = folder / "steps.txt"
        self.variables = {name: value for name, value in os.environ.items() if name != "VENV"}
        if real:
            return
        binaries = folder / "bin"
        binaries.mkdir()
        self.stand_in = folder / "stand-in"
        self.stand_in.write_text(SCRIPT)
        self.stand_in.chmod(0o755)
        for name in ("python{}.{}".format(*sys.version_info), "python3", "python"):
            (binaries / name).symlink_to(self.stand_in)
        (binaries / "uv").write_text(EVIL)  # a uv of the PATH is nobody's
        (binaries / "uv").chmod(0o755)
        self.evil = folder / "evil"
        self.counter.touch()
        self.variables |= {
            "PATH": f"{binaries}:/usr/local/bin:/usr/bin:/bin",
            "STEPS": str(self.counter),
            "STAND_IN": str(self.stand_in),
            "EVIL": str(self.evil),
            "REAL_PYTHON": sys.executable,
        }

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start make in a process group of its own."""
        return subprocess.Popen(
            ["make", *words],
            cwd=self.path,
            env=self.variables | variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def make(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run make to its end; return what it printed."""
        process = self.start(*words, **variables)
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"make {' '.join(words)} hangs") from None
        assert process.returncode == status, f"make {' '.join(words)} ended with {process.returncode}:\n{output}"
        return output

    def steps(self) -> list[str]:
        return self.counter.read_text().splitlines()

    def works(self) -> None:
        """Set up, and let the environment do something; then there is nothing to set up any more."""
        assert "No module" not in self.make("setup")
        assert "works" in self.make("train")
        before = self.steps()
        assert self.make("setup") == "" and self.steps() == before

    def installed(self, name: str) -> int:
        """Count how often a package has been written to its end."""
        return self.steps().count(f"{name}/last.py")


def cut_at_a_step(number: int, folder: Path) -> None:
    setup = Setup(folder)
    setup.make("setup", status=-signal.SIGKILL, KILL_AT=str(number))
    assert len(setup.steps()) == number, "the installation has fewer steps"
    setup.works()


def renewal_cut_at_a_step(number: int, folder: Path) -> None:
    """Cut off the installation of a changed lock; what was chosen at first is still chosen."""
    setup = Setup(folder)
    setup.make("setup", "EXTRAS=mlflow")
    change_hash(setup.path / "requirements/torch-cpu.txt")
    (setup.path / "pyproject.toml").touch()
    setup.make("setup", status=-signal.SIGKILL, KILL_AT=str(len(setup.steps()) + number))
    setup.make("setup", status=-signal.SIGKILL, KILL_AT=str(len(setup.steps()) + 1))
    setup.works()
    assert "extras=mlflow\n" in (setup.path / ".venv/.choices").read_text()


def change_hash(lock: Path) -> None:
    """Change the last hash of a lock."""
    text = lock.read_text()
    at = text.rindex("--hash=sha256:") + len("--hash=sha256:")
    lock.write_text(text[:at] + "0" * 64 + text[at + 64 :])


def cut_at_random(seed: int, folder: Path) -> None:
    """Send a signal to all processes, or kill make alone, at an instant between the start and the end."""
    draw = random.Random(seed)
    setup = Setup(folder)
    process = setup.start("setup", STEP_SECONDS="0.03")
    time.sleep(draw.uniform(0, 3))
    number = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[seed % 4]
    if process.poll() is None:
        os.killpg(process.pid, number) if seed % 5 else process.kill()
    setup.works()  # at once: what still runs is waited for
    process.communicate(timeout=SECONDS)


def at_once(count: int, folder: Path) -> None:
    setup = Setup(folder)
    processes = [setup.start("setup", STEP_SECONDS="0.02") for _ in range(count)]
    said = [process.communicate(timeout=SECONDS)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    assert len(setup.steps()) == STEPS, "installed more than once"
    assert sum("waiting for it" in words for words in said) == count - 1, said
    setup.works()


def fails_in_a_sentence(fault: str, part: str, folder: Path) -> None:
    setup = Setup(folder)
    if fault == "disk":
        (folder / "bin/df").symlink_to(setup.stand_in)
    output = setup.make("setup", status=2, FAULT=fault)
    (sentence,) = [line for line in output.splitlines() if line.startswith("error: the ")]
    assert part in sentence and "run make setup again" in sentence and "Traceback" not in output, output
    (folder / "bin/df").unlink(missing_ok=True)
    setup.works()


def fetched_python_cut_at_a_step(number: int, folder: Path) -> None:
    """Cut off the fetching of a Python, at each step before the installation; it is fetched once, by the locked uv."""
    setup = Setup(folder)
    setup.variables["HERE"] = "3.8"
    setup.make("setup", status=-signal.SIGKILL, KILL_AT=str(number))
    assert not (setup.path / ".venv").exists()
    setup.works()
    assert setup.steps().count("fetched/bin/python") == 1 and not setup.evil.exists()
    setup.make("clean")
    setup.works()
    assert setup.steps().count("fetched/bin/python") == 1


def no_python(folder: Path) -> None:
    """Have no Python of the project's version, and none in reach."""
    setup = Setup(folder)
    output = setup.make("setup", status=2, HERE="3.8", FAULT="python")
    (sentence,) = [line for line in output.splitlines() if line.startswith("error: Python ")]
    assert "UV_PYTHON_INSTALL_MIRROR" in sentence and "Traceback" not in output, output
    assert not (setup.path / ".venv").exists() and not setup.evil.exists()
    setup.works()  # with a Python of that version


def another_hash(how: str, folder: Path) -> None:
    """Change a lock's line for a package whose version is there; it is installed again, and nothing else is."""
    setup = Setup(folder)
    setup.make("setup")
    lock = setup.path / "requirements/torch-cpu.txt"
    text = lock.read_text()
    if how == "its hash":
        change_hash(lock)
    elif how == "one more hash":
        lock.write_text(f"{text.rstrip()} \\\n    --hash=sha256:{'0' * 64}\n")
    else:
        lock.write_text(f"{text}# {how}\n")
    setup.make("setup")
    assert setup.installed("torch") == (2 if "hash" in how else 1), setup.steps()
    for name in ("setuptools", "samebits", "project"):
        assert setup.installed(name) == 1, name
    setup.works()


def evil_uv(target: str, folder: Path) -> None:
    """Put a uv of somebody's first in the PATH."""
    setup = Setup(folder)
    process = setup.start(*target.split())
    process.communicate(timeout=SECONDS)
    assert setup.installed("pip"), "nothing was installed"
    assert not setup.evil.exists(), "the uv of the PATH was run"


def strange_place(kind: str, folder: Path) -> None:
    """Put something else where the environment goes."""
    setup = Setup(folder)
    place = setup.path / ".venv"
    elsewhere = folder / "elsewhere"
    if kind == "a file":
        place.write_text("mine")
    elif kind == "a dangling link":
        place.symlink_to(elsewhere)
    elif kind == "a folder of mine":
        place.mkdir()
        (place / "thesis.tex").write_text("mine")
    elif kind == "a link to a folder":
        elsewhere.mkdir()
        place.symlink_to(elsewhere)
    elif kind == "an empty folder":
        place.mkdir()
    elif kind == "another environment":
        (place / "bin").mkdir(parents=True)
        (place / "pyvenv.cfg").touch()
        (place / "bin/python").symlink_to("/nowhere/python3")
    if kind in REFUSED_PLACES:
        output = setup.make("setup", status=2)
        assert len([line for line in output.splitlines() if line.startswith("error: ")]) == 1, output
        assert kind == "a dangling link" or (place if place.is_file() else place / "thesis.tex").read_text() == "mine"
        assert not setup.steps()
    else:
        setup.works()
        assert (elsewhere / "bin/python").exists() == (kind == "a link to a folder")


def spoilt_packages(how: str, folder: Path) -> None:
    """Spoil the packages that a bundle brings; nothing is installed then, and one sentence names the file."""
    setup = Setup(folder)
    wheels, sums = setup.path / "offline/wheels", setup.path / "offline/SHA256SUMS"
    wheels.mkdir(parents=True)
    for name in ("first.whl", "second.whl"):
        (wheels / name).write_text(name)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(wheels.iterdir())}
    sums.write_text("".join(f"{digest}  wheels/{name}\n" for name, digest in digests.items()))
    named = "offline/wheels/second.whl"
    if how == "missing":
        (wheels / "second.whl").unlink()
    elif how == "changed":
        (wheels / "second.whl").write_text("sEcond.whl")
    elif how == "a folder":
        (wheels / "second.whl").unlink()
        (wheels / "second.whl").mkdir()
    elif how in ("without a list", "with an empty list"):
        named = "offline/SHA256SUMS"
        sums.unlink() if how == "without a list" else sums.write_text("")
    if how == "as they were":
        (setup.path / "offline/choices").write_text("accelerator=cuda\nextras=mlflow\n")
        setup.works()
        assert (setup.path / ".venv/.choices").read_text() == "accelerator=cuda\nextras=mlflow\n"
        (setup.path / "offline/choices").write_text(
            "accelerator=cpu\nextras=\nlocks=main mlflow\n"
        )  # of no environment
        output = setup.make("setup", "EXTRAS=ray", status=2)
        assert "error: the folder offline/ of this bundle has no packages for 'ray': remove offline/wheels" in output
        (wheels / "second.whl").unlink()  # which is needed no more
        assert setup.make("setup") == ""
        return
    output = setup.make("setup", status=2)
    (sentence,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert named in sentence and "unpack the bundle again" in sentence and not setup.steps(), output
    shutil.rmtree(setup.path / "offline/wheels")
    setup.works()


def cut_for_real(seed: int, folder: Path) -> None:
    """Interrupt real installations, then set up and train."""
    draw = random.Random(seed)
    setup = Setup(folder, real=True)
    process = setup.start("setup")
    time.sleep(draw.choice((draw.uniform(0, 6), draw.uniform(0, 60))))
    if process.poll() is None:
        os.killpg(process.pid, (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)[seed % 3])
    process.communicate(timeout=SECONDS)
    done = subprocess.run(["make", "train"], cwd=setup.path, env=setup.variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (setup.path / "models/main/record.json").exists()
    shutil.rmtree(setup.path)  # a gigabyte and a half


REFUSED_PLACES = ("a file", "a dangling link", "a folder of mine")
PLACES = (*REFUSED_PLACES, "a link to a folder", "an empty folder", "another environment")
FETCHED = range(1, FETCHING + 1)
EVIL_TARGETS = ("setup", "setup INSTALLER=pip", "lock")
LOCKS = ("its hash", "one more hash", "a comment")
SPOILT = ("missing", "changed", "a folder", "without a list", "with an empty list", "as they were")
CASES = [
    *(Attack(KIND, f"killed at step {number}", partial(cut_at_a_step, number)) for number in range(1, STEPS + 1)),
    *(Attack(KIND, f"renewal killed at step {n}", partial(renewal_cut_at_a_step, n)) for n in range(1, 10)),
    *(Attack(KIND, f"interrupted at random, {seed}", partial(cut_at_random, seed)) for seed in range(20)),
    *(Attack(KIND, f"{count} at once", partial(at_once, count)) for count in (2, 5)),
    Attack(KIND, "no network", partial(fails_in_a_sentence, "download", "as it says above")),
    Attack(KIND, "full disk", partial(fails_in_a_sentence, "disk", "has 2 MB left")),
    *(Attack(KIND, f"Python fetched, killed at step {n}", partial(fetched_python_cut_at_a_step, n)) for n in FETCHED),
    Attack(KIND, "no Python, no network", no_python),
    *(Attack(KIND, f"{kind} in the place of .venv", partial(strange_place, kind)) for kind in PLACES),
    *(Attack(KIND, f"packages of a bundle, {how}", partial(spoilt_packages, how)) for how in SPOILT),
    *(Attack(KIND, f"an evil uv: make {target}", partial(evil_uv, target)) for target in EVIL_TARGETS),
    *(Attack(KIND, f"a lock with {how}", partial(another_hash, how)) for how in LOCKS),
]
REAL = [Attack(KIND, f"interrupted for real, {seed}", partial(cut_for_real, seed)) for seed in range(30)]
