"""Something else where a file should be: for each of a run's files, and each command that meets it; faults of systems.

A command ends with a sentence or, where one bad run is among many, with a note that names it; it does not hang, prints
no traceback, and no run is left out of the report in silence.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .attack import Attack
from .faults import CUT, GOOD, OTHER, TRIAL, Done, command, copied, find, words
from .project import module


def empty_place(path: Path) -> Path:
    """Remove what is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def make_socket(path: Path) -> None:
    """Put a socket in the file's place; its path may be longer than sockets' may be."""
    empty_place(path)
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def cut(path: Path) -> None:
    """Leave half of a file, or of every file in a folder."""
    for each in path.rglob("*") if path.is_dir() else [path]:
        if each.is_file():
            os.truncate(each, each.stat().st_size // 2)


KINDS: dict[str, Callable[[Path], Any]] = {
    "a folder": lambda path: empty_place(path).mkdir(),
    "a link to nothing": lambda path: empty_place(path).symlink_to("nowhere"),
    "a link to itself": lambda path: empty_place(path).symlink_to(path.name),
    "a link to a folder": lambda path: empty_place(path).symlink_to("."),
    "a fifo": lambda path: os.mkfifo(empty_place(path)),
    "a socket": make_socket,
    "an empty file": lambda path: empty_place(path).touch(),
    "an empty device": lambda path: empty_place(path).symlink_to(os.devnull),
    "an endless device": lambda path: empty_place(path).symlink_to("/dev/zero"),
    "a file that may not be read": lambda path: path.chmod(0),
    "bytes that mean nothing": lambda path: empty_place(path).write_bytes(b"\x80\xff\x00 no text {" * 40),
    "a file that was cut": cut,
    "nothing": empty_place,
}
FILES = (
    *("record.json", "config.yaml", "code.patch", "trace.jsonl", "history.csv", "metrics.json", "predictions.csv"),
    *("model.safetensors", "verdicts/*.json", "verdicts", "."),
)
VERBS = ("report", "show", "compare", "reproduce", "bundle", "push", "status", "search", "train")
VERDICTS = ("verdicts", "verdicts/*.json")
OPTIONAL = ("history.csv", "predictions.csv", "model.safetensors", *VERDICTS)  # a clone may be without them
# where a command need not tell of a file, which it does not read
UNREAD = {"status": {*FILES} - {"metrics.json"}, **dict.fromkeys(("compare", "reproduce", "push"), VERDICTS)}
UNREAD |= dict.fromkeys(("train", "search"), VERDICTS)


def check(how: str, file: str, verb: str, folder: Path) -> None:
    """Damage a file of a run, and have a command meet it."""
    root = copied(folder)
    line = words(verb, root)
    if verb == "search":  # it begins anew, and finds the run of its first trial trained
        (root / "models/search.db").unlink()
    run = find(root, TRIAL if verb == "search" else GOOD)
    (path,) = run.glob(file) if file != "." else [run]
    KINDS[how](path)
    done = command(root, *line)
    well_ended(done)
    if how == "nothing" and file == "metrics.json" and verb in ("train", "search"):
        assert path.is_file(), f"a run without it has not ended, and is gone on with: {done}"
        return
    unread = file in UNREAD.get(verb, ()) or (how in ("nothing", "a link to nothing") and file in OPTIONAL)
    assert unread or path.name in done.text or file == ".", f"nothing tells of it: {done}"
    if verb == "report" and done.status == 0:
        assert OTHER in (root / "reports/report.html").read_text(), "another run is lost"
        assert file != "." or how == "nothing" or run.name in done.text, f"nothing tells of it: {done}"


def well_ended(done: Done) -> None:
    """Check that a command has ended as it may."""
    assert done.status is not None, f"it hangs: {done}"
    assert done.status in (0, 1, 2), done
    assert "Traceback" not in done.text and "Warning:" not in done.text, done
    if done.status == 2:
        assert re.search(r"(?m)^error: .*[.)]$", done.err) and done.err.count("error: ") == 1, done


def resume(how: str, file: str, folder: Path) -> None:
    """Damage a file of the run that was cut off, and go on with it."""
    root = copied(folder)
    path = sorted(find(root, CUT).glob(file))[-1]
    KINDS[how](path)
    done = command(root, *words("resume", root))
    well_ended(done)
    assert path.name in done.text or done.status == 0, done
    if done.status == 0:
        assert (find(root, CUT) / "metrics.json").is_file(), done


CASES = [
    Attack(f"{how} in the place of a file", f"{file}, {verb}", partial(check, how, file, verb))
    for how in KINDS
    for file in FILES
    for verb in VERBS
    if not ("folder" in how and file in ("verdicts", ".")) and not (verb == "search" and file in VERDICTS)
]
CASES += [
    Attack(f"{how} in the place of a file", f"{file}, going on", partial(resume, how, file))
    for how in KINDS
    for file in ("checkpoints/resume-*.ckpt", "checkpoints", "trace.jsonl", "history.csv", "record.json", "config.yaml")
]


# --- databases of searches, folders and disks


def search_database(how: str, said: str, folder: Path) -> None:
    """Damage the database of a search, and go on with that."""
    root = copied(folder)
    path = root / "models/search.db"
    DATABASES[how](path)
    done = command(root, *words("search", root), before=impatient)
    well_ended(done)
    assert done.status == 2 and re.search(said, done.err) and "search.db" in done.err, done


def impatient() -> None:
    """Wait for a second alone where a database is in use."""
    module("samebits.search.study").PATIENCE = 1


def overwrite(path: Path) -> None:
    """Fill the pages after the first with what means nothing."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5\x00\xff garbled " * (path.stat().st_size // 20))


def in_use(path: Path) -> None:
    """Hold the database, until this process ends or the next call."""
    HELD[:] = [sqlite3.connect(path)]
    HELD[0].execute("BEGIN EXCLUSIVE")


HELD: list[sqlite3.Connection] = []
DAMAGED, READ_ONLY = "is damaged: restore it, or move it away", "may not be written|cannot be opened"
DATABASES: dict[str, Callable[[Path], Any]] = KINDS | {
    "garbled": overwrite,
    "in use": in_use,
    "read-only": lambda path: path.chmod(0o444),
    "of another program": lambda path: (
        sqlite3.connect(empty_place(path)).execute("CREATE TABLE studies (x)").connection.commit()
    ),
}
SAID = {
    "a folder": READ_ONLY,
    "a link to itself": READ_ONLY,
    "a link to a folder": READ_ONLY,
    "a fifo": READ_ONLY,
    "a socket": READ_ONLY,
    "an endless device": READ_ONLY,
    "a file that may not be read": READ_ONLY,
    "bytes that mean nothing": DAMAGED,
    "a file that was cut": DAMAGED,
    "garbled": DAMAGED,
    "in use": "is in use by another program: close that",
    "read-only": READ_ONLY,
    "of another program": DAMAGED,
}
CASES += [Attack("a search's database", how, partial(search_database, how, said)) for how, said in SAID.items()]


def pipeline_lock(how: str, verb: str, folder: Path) -> None:
    """Put something else in the place of dvc.lock."""
    root = copied(folder)
    LOCKS[how](root / "dvc.lock")
    done = command(root, *words(verb, root))
    well_ended(done)
    assert done.status == 2 and "dvc.lock" in done.err, done


LOCKS = {name: KINDS[name] for name in ("a folder", "a link to itself", "a fifo", "bytes that mean nothing")} | {
    "a list": lambda path: path.write_text("- a\n- b\n"),
    "a number": lambda path: path.write_text("7\n"),
    "stages that are a list": lambda path: path.write_text("schema: '2.0'\nstages: [a]\n"),
}
CASES += [
    Attack("a dvc.lock that is none", f"{how}, {verb}", partial(pipeline_lock, how, verb))
    for how in LOCKS
    for verb in ("reproduce", "push")
]


def mounted(path: str, size: str = "", read_only: bool = False) -> None:
    """Have a folder be a small disk, or one that may not be written, for this process alone; else leave."""
    libc = ctypes.CDLL(None, use_errno=True)
    source, kind, flags = (path, None, 0x1000) if read_only else ("tmpfs", b"tmpfs", 0)  # MS_BIND
    done = libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None)  # CLONE_NEWNS; private
    done = done or libc.mount(source.encode(), path.encode(), kind, flags, f"size={size}".encode() if size else None)
    if read_only:
        done = done or libc.mount(b"none", path.encode(), None, 0x1021, None)  # MS_REMOUNT, MS_RDONLY
    if done:
        print("this system lets nobody mount", file=sys.stderr)
        os._exit(MAY_NOT_MOUNT)


MAY_NOT_MOUNT = 77


def on_a_disk(place: str, options: dict[str, Any], line: Sequence[str], said: str, folder: Path) -> None:
    """Run a command where a folder is a disk of its own."""
    root = copied(folder)
    path = place if place.startswith("/") else str(root / place)
    verb, *rest = words(line[0], root)
    done = command(root, verb, *rest, *line[1:], before=partial(mounted, path, **options))
    if done.status != MAY_NOT_MOUNT:
        well_ended(done)
        assert done.status == 2 and re.search(said, done.err), done


NEW = ("train", "seed=7", "run_name='new-seed=${seed}'")
CASES += [
    Attack("a disk", name, partial(on_a_disk, *arguments))
    for name, arguments in {
        "models/ read-only, train": ("models", {"read_only": True}, NEW, r"models\S* cannot be used \(Read-only"),
        "models/ read-only, search": ("models", {"read_only": True}, ("search",), r"models\S* .*(written|opened|used)"),
        "reports/ read-only, report": ("reports", {"read_only": True}, ("report",), r"reports\S* cannot be used"),
        "dist/ read-only, bundle": (".", {"read_only": True}, ("bundle",), r"dist\S* cannot be used"),
        "models/ full, train": ("models", {"size": "64k"}, NEW, r"models\S* is full"),
        "/dev/shm full, train": (
            "/dev/shm",
            {"size": "4k"},
            (*NEW, "data.module.num_workers=1", "data.module.batch_size=64"),
            "/dev/shm, through which processes hand over batches, is full",
        ),
    }.items()
]


def two_at_once(killed: bool, folder: Path) -> None:
    """Train the run that another process trains, or trained until it was killed."""
    root = copied(folder)
    (run := find(root, CUT)).joinpath("metrics.json").unlink(missing_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, root / "models/.locks" / run.name], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        if killed:
            holder.kill()
            holder.wait()
        done = command(root, *words("resume", root))
        holder.kill()
    well_ended(done)
    said = f"is being trained by process {holder.pid} on {socket.gethostname()}: wait until it has ended"
    assert done.status == (0 if killed else 2) and (killed or said in done.err), done


# it has a child that was forked while it held the lock, as processes that load data are
HOLDER = """
import os, sys, time
from pathlib import Path
from samebits.engine.files import only_process
with only_process(Path(sys.argv[1]), Path("x")):
    if os.fork() == 0:
        os.close(1)
        time.sleep(20)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""
CASES += [
    Attack("two at once", name, partial(two_at_once, killed))
    for name, killed in {"one trains": False, "one was killed, its child lives": True}.items()
]
