"""A project with finished runs, made once and copied, and its commands in processes that are forked: a try is short."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from .project import FEW, FOLDERS, ROOT, compose, module

PATIENCE = 300  # seconds in which a command ends, or something hangs
MORE_MEMORY = 2**32  # bytes that a command may take: a file without an end is not read into it
UNDAMAGED = "FAULTS_PROJECT"  # environment variable: the folder of the project that is copied
PRELOADED = (
    *("samebits.cli", "samebits.run", "samebits.verify.reproduce", "samebits.report.report", "samebits.bundle.bundle"),
    *("samebits.share", "samebits.sweep.run_status", "samebits.search.search", "samebits.search.study"),
    *("samebits.engine.trainer", "samebits.sweep.jobs", "dvc.repo", "optuna", "matplotlib.figure"),
)
# beginnings of the names of runs; CUT is unfinished, TRIAL is one of a search
GOOD, OTHER, CUT, TRIAL = "good-seed=1", "other-seed=2", "cut-seed=3", "trial-seed=0"
SHORT = (*FEW, "trainer.max_epochs=3", "trainer.limit_train_batches=2")
SEARCH = ("search.trials=1", "search.storage='sqlite:///models/search.db'", "run_name='trial-seed=${seed}'", *SHORT)


@dataclass(frozen=True)
class Done:
    """How a command has ended."""

    status: int | None  # None: it had to be killed
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.out + self.err


def find(root: Path, name: str) -> Path:
    """Find the directory of a run by the beginning of its name."""
    (run,) = (root / "models").glob(f"{name}-????????")
    return run


def words(verb: str, root: Path) -> list[str]:
    """Make the command line of a verb that works on the run GOOD, or of one that trains."""
    run = os.path.relpath(find(root, GOOD), root)
    named = {
        "compare": [run, os.path.relpath(find(root, OTHER), root)],
        "train": [*SHORT, "seed=1", "run_name='good-seed=${seed}'"],
        "resume": [*SHORT, "seed=3", "run_name='cut-seed=${seed}'", "callbacks.resume.every_n_steps=1"],
        "search": list(SEARCH),
        "newest": [],
    }
    at_all = {"report": [], "push": [], "status": []}
    return [verb, *(named | at_all).get(verb, [run])]


def command(root: Path, *line: str, before: Callable[[], None] | None = None) -> Done:
    """Run a command in a process that is forked, `train`, `resume` or a verb of the library, and wait for its end."""
    server = forks()
    assert server.stdin and server.stdout
    with tempfile.TemporaryDirectory() as folder:
        request = pickle.dumps((root, line, Path(folder), before))
        server.stdin.write(f"{base64.b64encode(request).decode()}\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, "the process that forks has ended"
        out, err = ((Path(folder) / name).read_text(errors="replace") for name in ("out", "err"))
    return Done(json.loads(answer), out, err)


@cache
def forks() -> subprocess.Popen[str]:
    """Start the process that has imported all, from which commands are forked."""
    module("samebits.engine.determinism").before_torch(compose().determinism)  # which PyTorch reads once
    words = [sys.executable, "-c", "from tests.faults import serve; serve()"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT.parents[1])


def serve() -> None:
    """Run a command for each line of the input, and answer with its exit status; null where it had to be killed."""
    for name in PRELOADED:
        module(name)
    for line in sys.stdin:
        root, words, folder, before = pickle.loads(base64.b64decode(line))
        for name in ("out", "err"):
            (folder / name).touch()
        if not (child := os.fork()):
            forked(root, words, folder, before)
        ended, deadline = 0, time.monotonic() + PATIENCE
        while not ended and time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        answer = os.waitstatus_to_exitcode(status) if ended else None
        if not ended:
            os.waitpid(child, 0)
        print(json.dumps(answer), flush=True)


def forked(root: Path, line: Sequence[str], folder: Path, before: Callable[[], None] | None) -> NoReturn:
    """Run a command in this process, which was forked for it, in a session of its own; see `command`."""
    status = 70
    try:
        _run(root, line, folder, before)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(root: Path, line: Sequence[str], folder: Path, before: Callable[[], None] | None) -> None:
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MORE_MEMORY, held + MORE_MEMORY))
    permissions_bind()
    os.chdir(root)
    sys.path[:] = [str(root / "src"), *(each for each in sys.path if each != str(ROOT / "src"))]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root / "src"), FOLDERS[0]])
    module("samebits.engine.project")._chosen[:] = []
    if before is not None:
        before()
    verb, *rest = line
    if verb in ("train", "resume"):
        train(root, rest)
        return
    # what takes long is left out: the re-run has the results that the run had, and trials are trained in a fork
    module("samebits.verify.verification").rerun = lambda *_, **__: recorded()
    starts = module("samebits.sweep.plan").TrainingCommand
    starts.start = lambda command, prefix, output: ForkedTraining(command.overrides, command.variables)
    module("samebits.cli").main([verb, *rest])


def train(root: Path, line: Sequence[str]) -> None:
    """Train, in this process."""
    command_line = module("samebits.engine.command_line")
    command_line.STARTED_IN = root
    sys.argv[:] = [str(root / "src/dummy/train.py"), *line]
    module("dummy.train").train()


def recorded() -> Any:
    """Read the result of the run GOOD as it was before it was damaged."""
    run = find(Path(os.environ[UNDAMAGED]), GOOD)
    return module("samebits.verify.comparison").recorded_result(run, json.loads((run / "record.json").read_text()))


class ForkedTraining:
    """Takes the place of the process that TrainingCommand.start returns; it is forked, so that it is there at once."""

    def __init__(self, words: Sequence[str], variables: dict[str, str]) -> None:
        read, write = os.pipe()
        if not (child := os.fork()):
            os.close(read)
            self._train(write, words, variables)
        os.close(write)
        self.pid, self.stdout = child, os.fdopen(read, errors="replace")
        self.status: int | None = None

    def _train(self, write: int, words: Sequence[str], variables: dict[str, str]) -> NoReturn:
        status = 70
        try:
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # as IGNORE_CTRL_C
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.environ.update(variables)
            sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
            train(Path.cwd(), words)
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(status)

    def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def terminate(self, number: int = signal.SIGTERM) -> None:
        """Ask it to save its state and end."""
        if self.status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.terminate(signal.SIGKILL)


def permissions_bind() -> None:
    """Give up what lets root read and write files that nobody may (CAP_DAC_OVERRIDE, _READ_SEARCH)."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    libc.capget(header, data)
    for index in (0, 1):  # effective, permitted
        data[index] &= ~0b110
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


@cache
def project() -> Path:
    """Make the project once: two finished runs, one of them the main one, with a verdict; one that was cut off."""
    root = Path(tempfile.mkdtemp(prefix="faults-")) / "project"
    os.environ[UNDAMAGED] = str(root)
    left_out = shutil.ignore_patterns("processed", "raw", ".cache", "__pycache__", "dist")
    shutil.copytree(ROOT, root, ignore=left_out)
    cfg = compose([f'paths.root="{root}"'])
    module("samebits.fetch").fetch(cfg)
    module("dummy.data.prepare").prepare(cfg)
    (root / ".gitignore").write_text("/data/raw\n/data/processed\n.cache\n__pycache__\n/dist\n")
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c"]
    dvc = [sys.executable, "-m", "dvc"]
    storage = root.parent / "storage"
    for line in (
        [*git, "init", "--quiet"],
        [*dvc, "init", "--force"],
        [*dvc, "remote", "add", "--default", "storage", str(storage)],
        [*git, "add", "--all"],
        [*git, "commit", "--quiet", "--message", "Begin"],
    ):
        subprocess.run(line, cwd=root, check=True)
    with (root / "src/dummy/train.py").open("a") as file:
        file.write("# changed\n")  # so that there is a code.patch
    for more in (
        ["seed=2", "run_name='other-seed=${seed}'"],
        ["seed=1", "run_name='good-seed=${seed}'", "publish=models/main"],
    ):
        done = command(root, "train", *SHORT, *more)
        assert done.status == 0, done
    done = command(root, *words("resume", root), before=end_after_five)
    assert done.status not in (0, None) and list(find(root, CUT).glob("checkpoints/*")), done
    done = command(root, *words("search", root))
    assert done.status == 0, done
    done = command(root, "reproduce", os.path.relpath(find(root, GOOD), root))
    assert done.status == 0, done
    for state in (GOOD, OTHER):
        run_status = module("samebits.sweep.run_status")
        noted = run_status.RunState(state, ["x=1"], "local", "models/" + find(root, state).name, "no.log", "finished")
        run_status.write_state(root / ".cache/sweep" / f"{state}.json", noted)
    return root


def end_after_five() -> None:
    """Have a training be killed after five steps."""
    callback = module("samebits.engine.checkpoint").ExactResume
    before = callback.save

    def save(self: Any, trainer: Any) -> None:
        before(self, trainer)
        if trainer.global_step >= 5:
            os.kill(os.getpid(), 9)

    callback.save = save


def copied(folder: Path) -> Path:
    """Copy the project, to be damaged."""
    return Path(shutil.copytree(project(), folder / "project", symlinks=True))
