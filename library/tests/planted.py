"""Copies of a trained project in which faults are planted, and what `samebits` says of each; see catalogue.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .project import FEW, LIBRARY, NAME, ROOT, pipeline

IDENTICAL, ENVIRONMENT, NONDETERMINISTIC = "IDENTICAL", "ENVIRONMENT", "NONDETERMINISTIC"
INPUTS, TAMPERED = "DIFFERENT INPUTS", "TAMPERED"
# No verdict: one sentence and status 2; what another verb prints, with status 0, of what is sound and of what is not
REFUSED, SAID, PASSED_OVER = "refused", "said", "passed over"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")
NETWORK, MODULE = f"src/{NAME}/models/classifier.py", f"src/{NAME}/data/datamodule.py"
LAYERS, PREPARE = f"src/{NAME}/models/network.py", f"src/{NAME}/data/prepare.py"
LOSS = "        loss: torch.Tensor = self.loss(self(images), labels)\n"
DATA = "data/processed/digits"


@dataclass
class Place:
    """A project that may be spoilt, and the environment in which it is called."""

    path: Path
    name: str = ""  # of the run that is verified
    environment: dict[str, str] = field(default_factory=dict)
    first: list[Path] = field(default_factory=list)  # folders that Python looks into before all others
    prefix: tuple[str, ...] = ()  # of the command
    python: str = sys.executable
    asked: str = ""  # what is verified in the place of the run

    @property
    def home(self) -> Path:
        """The user's folder, of all places."""
        folder = self.path.parent / "home"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def run(self) -> Path:
        """The directory of the run."""
        return self.path / "models" / self.name

    def sibling(self, word: str) -> Path:
        """Find another run by a word of its name."""
        return next(path for path in self.path.glob("models/debug-*") if word in path.name and path.name != self.name)

    def call(self, *words: str, status: int | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python; with `status`, it has to end so."""
        left_out = ("HYDRA_FULL_ERROR", "PYTHONHASHSEED", "PYTHONPATH")
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        paths = [*self.first, LIBRARY / "src", self.path / "src"]
        environment |= {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "HOME": str(self.home),
            "DVC_NO_ANALYTICS": "1",
        }
        command = [*self.prefix, self.python, *words]
        done = subprocess.run(
            command, cwd=self.path, env=environment | self.environment, capture_output=True, text=True
        )
        assert status in (None, done.returncode), done.stdout + done.stderr
        return done

    def train(self, *words: str) -> str:
        """Train, and return the new run's name."""
        before = set(self.path.glob("models/debug-*"))
        self.call("-m", f"{NAME}.train", *FEW, *words, status=0)
        (run,) = set(self.path.glob("models/debug-*")) - before
        return run.name

    def git(self, *words: str) -> None:
        """Call Git."""
        subprocess.run(["git", *IDENTITY, *words], cwd=self.path, check=True, capture_output=True)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text, which must be there; RUN in the name is the run's directory."""
        path = self.path / name.replace("RUN", f"models/{self.name}")
        content = path.read_text()
        assert old in content, (name, old)
        path.write_text(content.replace(old, new, 1))

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file, and its folders where they are missing."""
        path = self.path / name.replace("RUN", f"models/{self.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def own_packages(self) -> Path:
        """Give it an environment of its own, which shares all packages; return the folder in which some may be put."""
        folder = self.path.parent / f"{self.path.name}-env"
        if not folder.exists():
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
            self.python = str(folder / "bin/python")
        (site,) = folder.glob("lib/*/site-packages")
        (site / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        return site


Plant = Callable[[Place], object]


def edit(name: str, old: str, new: str) -> Plant:
    """Make a plant that replaces a text."""
    return lambda place: place.edit(name, old, new)


def write(name: str, text: str | bytes) -> Plant:
    """Make a plant that writes a file."""
    return lambda place: place.write(name, text)


def both(*plants: Plant) -> Plant:
    """Make one plant of several."""
    return lambda place: [plant(place) for plant in plants]


def nothing(place: Place) -> None:
    """Plant nothing."""


@dataclass(frozen=True)
class Variant:
    """A project as it is trained: what is other than in tests/project, and which runs there are."""

    before: Plant = nothing  # committed
    dirty: Plant = nothing  # after the commit
    words: tuple[str, ...] = ()
    siblings: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Case:
    """A fault or its innocent twin, and what must be said."""

    kind: str
    name: str
    plant: Plant
    verdict: str
    says: tuple[str, ...] = ()  # all of them are to be found in what is printed
    unsaid: tuple[str, ...] = ()  # none of them is
    first: str = ""  # in the first cause
    options: tuple[str, ...] = ()
    of: str = "plain"  # the variant
    verb: str = "reproduce"
    quick: bool = False  # whether it is tried in every run of the tests

    @property
    def status(self) -> int:
        """The exit status that it must have."""
        return {IDENTICAL: 0, SAID: 0, PASSED_OVER: 0, REFUSED: 2}.get(self.verdict, 1)

    @property
    def innocent(self) -> bool:
        """Whether it is no fault."""
        return self.verdict in (IDENTICAL, SAID)


@dataclass
class Workshop:
    """Makes and keeps the trained variants, and tries cases in copies of them."""

    folder: Path
    variants: dict[str, Variant]

    def base(self) -> Path:
        """Make the project, whose pipeline has prepared the data."""
        path = self.folder / "base"
        if path.exists():
            return path
        place = Place(self.folder / "making")
        shutil.copytree(ROOT, place.path, ignore=shutil.ignore_patterns("__pycache__", ".cache", "cache", "tmp"))
        place.write("dvc.yaml", pipeline())
        for kind in ("raw", "processed"):
            place.edit("configs/train.yaml", f"/data/{kind}\n", f"/data/{kind}/${{data.name}}\n")
        place.write(".gitignore", "/data/*\n/models/*\n__pycache__\n/.cache\n/.dvc/tmp\n/.dvc/cache\n")
        place.write(".dvcignore", "__pycache__\n.DS_Store\n")
        place.git("init", "--quiet")
        shutil.rmtree(place.path / ".dvc", ignore_errors=True)
        place.call("-m", "dvc", "init", "--quiet", status=0)
        place.call("-m", "dvc", "repro", "--quiet", "prepare", status=0)
        place.git("add", "--all")
        place.git("commit", "--quiet", "--message=first")
        place.path.rename(path)
        return path

    def trained(self, name: str) -> Place:
        """Train a variant, once."""
        path = self.folder / f"of-{name}"
        kept, variant = path.with_suffix(".name"), self.variants[name]
        if not kept.exists():
            shutil.rmtree(path, ignore_errors=True)
            place = Place(self.copy(self.base(), path))
            variant.before(place)
            place.git("add", "--all")
            place.git("commit", "--quiet", "--allow-empty", "--message=second")
            variant.dirty(place)
            run = place.train(*variant.words)
            for words in variant.siblings:
                place.train(*words)
            kept.write_text(run)
        return Place(path, kept.read_text())

    def copy(self, source: Path, target: Path) -> Path:
        """Copy a folder as it is, with its dates."""
        subprocess.run(["cp", "--archive", source, target], check=True)
        return target

    def attempt(self, case: Case, show: bool = False) -> str:
        """Try a case; return what is wrong, with what was said, or nothing; print what was said, if asked to."""
        original = self.trained(case.of)
        place = Place(self.copy(original.path, self.folder / "copy"), original.name)
        try:
            case.plant(place)
            status, out, error = self.say(case, place)
            if show:
                print(f"\n=== {case.kind}: {case.name}\n{out}{error}", flush=True)
            return judge(case, status, out, error)
        finally:
            for path in self.folder.glob("copy*"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def say(self, case: Case, place: Place) -> tuple[int, str, str]:
        """Call the command of a case; return its status and what it printed."""
        run = place.asked or os.path.relpath(place.run, place.path)
        done = place.call("-m", "samebits", case.verb, *([run] if run != "-" else []), *case.options)
        return done.returncode, done.stdout, done.stderr


def judge(case: Case, status: int, out: str, error: str) -> str:
    """Compare what was said with what must be; return what is wrong, or nothing."""
    said = out + error
    plain = " ".join(said.split())
    causes = [line for line in out.splitlines() if line.startswith("  - ")] or [""]
    lines = out.splitlines()
    wrong = [f"status {status}, not {case.status}"] if status != case.status else []
    if case.verdict == REFUSED:
        one = len(error.strip().splitlines()) == 1 and error.startswith("error: ")
        wrong += [] if one else ["not one sentence"]
    elif case.verdict not in (SAID, PASSED_OVER):
        wrong += [] if any(line.startswith(f"{case.verdict} ") for line in lines) else [f"not {case.verdict}"]
        wrong += [] if "\nNext:" in out else ["nothing to do next"]
    wrong += [f"not said: {each}" for each in case.says if " ".join(each.split()) not in plain]
    wrong += [f"said: {each}" for each in (*case.unsaid, "Traceback") if each in plain]
    wrong += [f"the first cause is not {case.first}: {causes[0].strip()}"] if case.first not in causes[0] else []
    return "; ".join(wrong) + f"\n{said.strip()}" if wrong else ""


def split(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Sort cases by their kind, in the order in which kinds appear."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.kind, []).append(case)
    return found
