"""Kill commands at random instants, call them again, and compare what there is with what an undisturbed call leaves.

`python -m tests.command_kills --kills 30`; `make soak` calls it. Commands are forked from a process that has imported
all, so that kills fall into their own work; half of them at the instants when files change. `--planted` has commands
write as no command should, in two steps, to show that this is found.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from . import faults
from .calls import Call, git, make_base
from .project import compose, module
from .whole import Listing, half_written, hashes, listing

PATIENCE = 300  # seconds in which a command ends, or something hangs
ENDED = 60  # seconds in which a command that was asked to ends
# what says nothing of a command's result, or changes whenever Git and DVC look at something
PASSING = ("project/.cache/*", "project/models/.locks/*", "project/.git/index", "project/.dvc/tmp/*", "tmp/*")
PASSING += ("project/.git/objects/*", "origin.git/*", "project/.dvc/cache/*.tmp")  # the last are DVC's own, empty
CUT_BY_DVC = ("project/shared/*.dvc",)  # which it writes in place: the next push finds that, and has them written again
GROWING = ("*/trace.jsonl", "*/history.csv", "*.log", "*.new", "*-journal")  # cut back, rolled back, or written beside
STOPPED = (0, 75, 130, 143, -signal.SIGTERM, -signal.SIGINT)  # exit statuses after SIGTERM and SIGINT


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        words: its command line; RUN stands for the folder of a finished run.
        results: patterns of the files that are its results, of which all else is left alone.
        unlike: of those whose bytes are another call's own.
    """

    words: Sequence[str]
    results: Sequence[str]
    unlike: Sequence[str] = ("*/compute.json", "*/checkpoints/*")  # the last stay, where there was time for some


STUDY = ("search.name=kills", "search.storage='sqlite:///models/kills.db'", "run_name='kills-seed=${seed}'")
SWEPT = ("run_name='swept-seed=${seed}'", "--seeds", "5,6", "--jobs", "2")
COMMANDS = {
    "sweep": Command(("sweep", *faults.SHORT, *SWEPT), ("project/models/swept-*", "project/.git/refs/runs/swept-*")),
    "search": Command(
        ("search", *faults.SHORT, *STUDY, "search.trials=3"),
        ("project/models/kills*", "project/reports/kills*", "project/.git/refs/runs/kills-*"),
    ),
    "report": Command(("report",), ("project/reports/*",)),
    "bundle": Command(("bundle", "RUN"), ("project/dist/*",)),
    "push": Command(("push",), ("project/shared/*", "project/models/.gitignore", "storage/*", "project/.dvc/cache/*")),
    "reproduce": Command(
        ("reproduce", "RUN"), ("project/reports/reproduction.md", "*/verdicts/*"), ("*/verdicts/*", "*reproduction.md")
    ),
}


def matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


@dataclass
class Undisturbed:
    """What a call that nobody disturbs takes and leaves.

    Attributes:
        seconds: from its start to its end.
        changes: instants at which files were seen to change.
        results: by name, a digest, or what is in them that has to be the same.
        names: of all files.
    """

    seconds: float
    changes: int
    results: dict[str, Any]
    names: set[str]


@dataclass
class Outcome:
    """What came of one kill."""

    command: str
    number: int
    how: str = ""
    phase: str = "no time"  # before, while or after it wrote; or the command had ended
    problems: list[str] = field(default_factory=list)
    folder: str = ""  # kept, where there are problems
    seconds: float = 0.0


# --- what has to be


def standing(root: Path) -> list[str]:
    """Tell branch, commit and index of a repository, and its references."""
    shown = [git(root, "symbolic-ref", "HEAD"), git(root, "ls-files", "--stage")]
    return [*shown, *git(root, "for-each-ref").splitlines()]


def results(folder: Path, command: Command, found: dict[str, str]) -> dict[str, Any]:
    """Collect the results: of records, databases what counts in them; of other files their hashes."""
    chosen: dict[str, Any] = {}
    for name, digest in found.items():
        if not matches(name, command.results) or matches(name, (*command.unlike, *PASSING)):
            continue
        if name.endswith("/record.json"):
            record = json.loads((folder / name).read_text())
            outputs, status = record.get("outputs"), record["observed"]["status"]
            chosen[name] = (record["inputs"], outputs, status, record["observed"].get("remarks"))
        elif name.endswith(".db"):
            chosen[name] = trials(folder / name)
        elif not name.endswith(".db.lock"):
            chosen[name] = digest
    return {
        re.sub(r"^project/\.git/refs/(.*)$", r"\1", name): "ref" if "/refs/" in name else value
        for name, value in chosen.items()
    }


def trials(path: Path) -> list[Any]:
    """Read the trials of a search's database, as far as they have to be the same."""
    try:
        study = module("optuna").load_study(study_name="kills", storage=f"sqlite:///{path}")
    except KeyError:  # it has not begun
        return []
    passing = ("folder", "failures", "reason")  # where they were made, and how often they had to be tried
    return [
        (
            *(each.number, each.state.name, each.values, each.params, each.intermediate_values),
            *((key, value) for key, value in sorted(each.user_attrs.items()) if key not in passing),
        )
        for each in study.get_trials(deepcopy=False)
    ]


def names_of(found: dict[str, str]) -> set[str]:
    """Choose the names of files that are there after every call; those of objects and of passing things are not."""
    left_out = ("project/.git/objects/*", "project/.dvc/tmp/*", "origin.git/*", "tmp/*", "*/verdicts/*")
    left_out += ("*/checkpoints/resume-*.ckpt", "project/.dvc/cache/*.tmp")
    return {name for name in found if not matches(name, left_out)}


def lost(before: dict[str, str], after: dict[str, str], command: Command) -> list[str]:
    """Name files of before that are no longer what they were, and are neither results nor passing."""
    return [
        f"{name} was {'changed' if name in after else 'lost'}"
        for name, digest in before.items()
        if after.get(name) != digest and not matches(name, (*PASSING, *command.results))
    ]


def torn(folder: Path, before: dict[str, str], after: dict[str, str], passing: Sequence[str] = ()) -> list[str]:
    """Name files that are new or changed, and not whole."""
    found = []
    for name, digest in after.items():
        if before.get(name) == digest or matches(name, (*GROWING, *passing, "tmp/*", "*/.git/*", "*/.dvc/tmp/*")):
            continue
        if "/.dvc/cache/" in name and (folder / name).stat().st_mode & 0o200:
            continue  # DVC believes an object of its own once it may not be written any more
        if why := half_written(folder / name):
            found.append(f"{name} is not whole ({why})")
    return found


def repository(root: Path, before: list[str]) -> list[str]:
    """Say what is wrong with a repository, or is not as it was."""
    found = [f"git fsck: {line}" for line in git(root, "fsck", "--full", "--no-dangling").splitlines()
             if not line.startswith("notice")]  # fmt: skip
    found += [f"Git: {line} is gone" for line in before if line not in standing(root)]
    return found + [f"{lock.relative_to(root)} is left" for lock in (root / ".git").rglob("*.lock")]


# --- undisturbed, and killed


def undisturbed(base: Path, name: str) -> Undisturbed:
    """Call a command once, and look at it in the same way."""
    with tempfile.TemporaryDirectory(prefix="undisturbed-") as made:
        folder = copied(base, Path(made))
        call, started, changes, last = Call(folder, COMMANDS[name].words), time.monotonic(), 0, listing(folder)
        while not call.ended():
            changes, last = changes_since(folder, changes, last)
            time.sleep(0.001)
        seconds = time.monotonic() - started
        assert call.status == 0, f"{name}: {call.said()}"
        call.close()
        found = hashes(folder)
        return Undisturbed(seconds, changes, results(folder, COMMANDS[name], found), names_of(found))


def copied(base: Path, folder: Path) -> Path:
    return Path(shutil.copytree(base, folder / "try", symlinks=True))


def changes_since(folder: Path, changes: int, last: Listing) -> tuple[int, Listing]:
    now = listing(folder)
    return changes + (now != last), now


def kill(call: Call, draw: random.Random, like: Undisturbed) -> str:
    """Kill a command, in one of several ways, and return which; empty where it had ended."""
    if draw.random() < 0.5:
        wanted, changes, last = draw.randint(1, max(like.changes, 1)), 0, listing(call.folder)
        pause = draw.choice((0, draw.uniform(0, 0.01)))
        while changes < wanted and not call.ended():
            changes, last = changes_since(call.folder, changes, last)
        time.sleep(pause)
        when = f"change {wanted} of {like.changes}"
    else:
        instant = draw.uniform(0, like.seconds)
        until = time.monotonic() + instant
        while time.monotonic() < until and not call.ended():
            time.sleep(0.002)
        when = f"{instant:.2f} of {like.seconds:.2f} s"
    how = draw.choice(("all", "all", "all", "all", "first", "one", "SIGTERM", "SIGINT"))
    if call.ended():
        return ""
    others = call.others()
    if how == "one" and others:
        with suppress(ProcessLookupError):
            os.kill(draw.choice(others), signal.SIGKILL)
    elif how.startswith("SIG"):
        call.send(signal.Signals[how])
    else:
        call.send(signal.SIGKILL, to_all=how == "all")
    return f"{how} at {when}"


def attempt(base: Path, name: str, number: int, seed: int, like: Undisturbed, planted: bool = False) -> Outcome:
    """Kill one call, look at what is there, call again, and compare; once more where it had ended before the kill."""
    draw = random.Random(f"{seed}-{name}-{number}")
    for _ in range(3):
        outcome = try_once(base, Outcome(name, number), draw, like, planted)
        if outcome.how or outcome.problems:
            break
    return outcome


def try_once(base: Path, outcome: Outcome, draw: random.Random, like: Undisturbed, planted: bool) -> Outcome:
    """Kill one call, look at what is there, call again, and compare."""
    name, began = outcome.command, time.monotonic()
    command = COMMANDS[name]
    folder = copied(base, made := Path(tempfile.mkdtemp(prefix=f"killed-{name}-")))
    root = folder / "project"
    before, was = hashes(folder), standing(root)
    problems = outcome.problems
    call = Call(folder, command.words, planted)
    outcome.how = kill(call, draw, like)
    if not call.wait(PATIENCE if outcome.how.startswith("one") else ENDED):
        problems.append(f"it did not end after {outcome.how}")
    asked = "SIG" in outcome.how
    if "Traceback" in call.said() or (asked and call.status not in STOPPED):
        problems.append(f"it ended with {call.status} and said: {call.said()[-1500:]}")
    while outcome.how.startswith(("all", "SIG")) and call.others() and time.monotonic() - began < PATIENCE:
        time.sleep(0.01)
    alive = bool(call.others())  # of a command that was killed alone
    found = {} if alive else hashes(folder)
    if not alive:
        problems += lost(before, found, command) + torn(folder, before, found, CUT_BY_DVC) + repository(root, was)
    if outcome.how:
        written = alive or {name for name in found if found[name] != before.get(name) and not matches(name, PASSING)}
        whole = not alive and not problems and like.results == results(folder, command, found)
        outcome.phase = "after" if whole else "while" if written else "before"
    again = Call(folder, command.words)
    if not again.wait(PATIENCE) or again.status != 0:
        problems.append(f"the second call ended with {again.status}: {again.said()[-1500:]}")
    for each in (call, again):
        each.close()
    found = hashes(folder)
    problems += lost(before, found, command) + torn(folder, before, found) + repository(root, was)
    now = results(folder, command, found) if again.status == 0 else like.results
    for each in sorted(now.keys() | like.results.keys()):
        if now.get(each) != like.results.get(each):
            problems.append(f"{each} is not the same: {now.get(each)!s:.300} / {like.results.get(each)!s:.300}")
    if again.status == 0:
        problems += [f"{each} is left" for each in sorted(names_of(found) - like.names)]
    if name == "push" and again.status == 0:
        try:
            problems += fetched(folder)
        except AssertionError as error:
            problems.append(str(error))
    outcome.seconds = time.monotonic() - began
    if problems:
        outcome.folder = str(folder)
    else:
        shutil.rmtree(made, ignore_errors=True)
    return outcome


def fetched(folder: Path) -> list[str]:
    """Commit what was pushed, clone it, and have the weights of all runs there."""
    root = folder / "project"
    for words in (("add", "--all", "models", "shared", ".dvc"), ("commit", "--quiet", "-m", "Share"), ("push", "-q")):
        said = git(root, *words, *(("origin", "HEAD") if words[0] == "push" else ()))
        assert "(status " not in said, said
    git(folder, "clone", "--quiet", "origin.git", "clone")
    call = Call(folder, ("pull",), cwd="clone")
    call.wait(PATIENCE)
    problems = [] if call.status == 0 else [f"pull in a clone ended with {call.status}: {call.said()[-800:]}"]
    call.close()
    for pointer in (root / "shared").glob("*.dvc"):
        here, there = (each / "models" / pointer.stem / "model.safetensors" for each in (root, folder / "clone"))
        if not there.is_file() or here.read_bytes() != there.read_bytes():
            problems.append(f"{pointer.stem} has not come into the clone")
    return problems


# --- all of them


def start(undamaged: str) -> None:
    """Prepare a process that forks commands."""
    os.environ[faults.UNDAMAGED] = undamaged
    for name in faults.PRELOADED:
        module(name)


def kill_commands(
    base: Path, names: Sequence[str], kills: int, seed: int, parallel: int = 2, planted: bool = False
) -> list[Outcome]:
    """Kill each of the commands at instants that follow from `seed`; print a line for each kill."""
    module("samebits.engine.determinism").before_torch(compose().determinism)  # which PyTorch reads once
    outcomes = []
    started = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, started, start, (str(base / "project"),)) as pool:
        for name in names:
            like = pool.submit(undisturbed, base, name).result()
            print(f"{name}: {like.seconds:.1f} s, {like.changes} changes, {len(like.results)} results", flush=True)
            tries = [pool.submit(attempt, base, name, n, seed, like, planted) for n in range(1, kills + 1)]
            for future in tries:
                outcomes.append(outcome := future.result())
                said = "good" if not outcome.problems else f"BAD, see {outcome.folder}"
                line = f"{name} {outcome.number:>3} {outcome.how or 'NO TIME':<34} {outcome.phase:<8}{said}"
                print("\n    ".join([line, *outcome.problems[:8]]), flush=True)
    return outcomes


def table(outcomes: Sequence[Outcome]) -> str:
    """Print a line for each command: kills; those before, while and after it wrote; good ones."""
    lines = [f"{'command':<12}{'kills':>6}{'before':>8}{'while':>8}{'after':>8}{'no time':>9}{'good':>6}"]
    for name in dict.fromkeys(each.command for each in outcomes):
        ours = [each for each in outcomes if each.command == name]
        count = Counter(each.phase for each in ours)
        good = sum(not each.problems for each in ours)
        killed = len(ours) - count["no time"]
        lines.append(f"{name:<12}{killed:>6}{count['before']:>8}{count['while']:>8}{count['after']:>8}"
                     f"{count['no time']:>9}{good:>6}")  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Return 1 where anything was lost, torn or different."""
    parser = argparse.ArgumentParser(prog="python -m tests.command_kills", description=__doc__.split("\n")[0])
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=[*COMMANDS], help="which (all)")
    parser.add_argument("--kills", type=int, default=5, help="of each (5)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the instants (random)")
    parser.add_argument("--parallel", type=int, default=2, help="calls at the same time (2)")
    parser.add_argument("--planted", action="store_true", help="have commands write in two steps: it must be found")
    parser.add_argument("--base", type=Path, help="a folder in which the project is made, or was by an earlier call")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    base = arguments.base or Path(tempfile.mkdtemp(prefix="base-"))
    if not (base / "project").exists():
        make_base(base)
    outcomes = kill_commands(
        base, arguments.commands, arguments.kills, arguments.seed, arguments.parallel, arguments.planted
    )
    if not arguments.base:
        shutil.rmtree(base)
        shutil.rmtree(faults.project().parent, ignore_errors=True)
    print(table(outcomes))
    return int(any(outcome.problems for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
