"""Something else where a file should be: for each of a run's files, and each command that meets it.

A command ends with a sentence or, where one bad run is among many, with a note that names it; it does not hang, prints
no traceback, and no run is left out of the report in silence.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .attack import Attack
from .faults import CUT, GOOD, OTHER, TRIAL, Done, command, copied, find, words


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
]
CASES += [
    Attack(f"{how} in the place of a file", f"{file}, going on", partial(resume, how, file))
    for how in KINDS
    for file in ("checkpoints/resume-*.ckpt", "checkpoints", "trace.jsonl", "history.csv", "record.json", "config.yaml")
]
