"""Notes what the user's code asks for while it runs, by file and line.

In a training: the time of day. As a program, `python observer.py OPTIONS MODULE [ARGUMENT ...]`, it runs a module as
`python -m` does, as a re-run that looks for causes: folders are listed backwards, and calls of clocks, chance and the
system are noted, and the lines that are run of those that `samebits lint` suspects. It needs the standard library
alone, so that it comes before everything else, and with every version of the library.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # this folder, whose modules are not to be found by their names alone

import ast
import json
import os
import re
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from types import ModuleType
from typing import Any

STDLIB = sysconfig.get_path("stdlib") + os.sep
INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("platstdlib", "purelib", "platlib")} | {STDLIB})
PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# Functions of the module time, and with how many arguments at most they ask for the time of day
CLOCKS = {"time": 0, "time_ns": 0, "localtime": 0, "gmtime": 0, "ctime": 0, "strftime": 1}
DATES, DATE = re.compile(rb"\.(now|utcnow|today)\("), re.compile(r"(date(time)?|Timestamp)\.((utc)?now|today)$")
# What makes two trainings differ, by the dotted name of what is called; a generator without a seed calls getrandbits
CALLED = re.compile(
    r"time\.(\w*time|\w*time_ns|monotonic|perf_counter|strftime)|datetime\.(datetime\.(now|utcnow|today)|date\.today)"
    r"|os\.(urandom|getrandom|getp?pid)|uuid\.uuid[14]|secrets\.\w+|random\.SystemRandom\.\w+|_?socket\.gethostname"
    r"|torch\.(random\.|_C\.Generator\.)seed|_thread\.get_(native_)?ident"
)
UNSEEDED = {"random.Random.__init__": "x", "random.Random.seed": "a"}  # and the argument that holds the seed


def is_installed(path: str) -> bool:
    """Whether a path is Python's own, or that of an installed package."""
    return path.startswith(INSTALLED) or any(each in path for each in PACKAGES)


class Names(dict[str, str]):
    """The names of files with code, by which records know them; "" for what is not the user's."""

    def __init__(self, root: str, source: str) -> None:
        self.folders, self.own = (source, root), os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120

    def __missing__(self, file: str) -> str:
        path, library = os.path.abspath(file), getattr(sys.modules.get("samebits"), "__path__", [])  # noqa: PTH100
        own = [*library, self.own]
        if file.startswith("<") or is_installed(path) or path.startswith(tuple(f"{each}{os.sep}" for each in own)):
            self[file] = ""
        else:
            inside = [os.path.relpath(path, each) for each in self.folders if path.startswith(each + os.sep)]
            self[file] = inside[0] if inside else f".../{os.path.basename(path)}"  # noqa: PTH119
        return self[file]


class Notes:
    """Sentences, each once, in a file that forked processes write to as well."""

    def __init__(self, file: Any) -> None:
        self.file, self.known = file, set[str]()

    def add(self, sentence: str) -> None:
        """Add one, unless it is there."""
        if sentence not in self.known:
            self.known.add(sentence)
            os.write(self.file.fileno(), f"{sentence}\n".encode())


@contextmanager
def watch_clock(root: str, source: str, note: Callable[[str], None]) -> Iterator[None]:
    """Note who in the user's code asks the module time for the time of day; its functions give what they always do."""
    names, kept = Names(root, source), {name: getattr(time, name) for name in CLOCKS}

    def noting(name: str, function: Callable[..., Any], most: int) -> Callable[..., Any]:
        @wraps(function)
        def call(*arguments: Any) -> Any:
            caller = sys._getframe(1)
            if len(arguments) <= most and (file := names[caller.f_code.co_filename]):
                note(f"{file}:{caller.f_lineno} calls time.{name}()")
            return function(*arguments)

        return call

    try:
        for name, function in kept.items():
            setattr(time, name, noting(name, function, CLOCKS[name]))
        yield
    finally:
        for name, function in kept.items():
            setattr(time, name, function)


def find_dates(files: Mapping[str, Any]) -> list[str]:
    """List where the code of files (name and path) can ask for a date: calls that cannot be watched."""
    found = []
    for name, path in files.items():
        with suppress(OSError, SyntaxError, ValueError):
            content = path.read_bytes()
            for node in ast.walk(ast.parse(content)) if DATES.search(content) else ():
                if isinstance(node, ast.Call) and DATE.search(text := ast.unparse(node.func)):
                    found.append(f"{name}:{node.lineno} has {text}() in its code")
    return found


def list_backwards(names: Names, note: Callable[[str], None]) -> None:
    """Have all folders but those of installed packages listed in the opposite order, also by glob, pathlib, os.walk."""

    def order(folder: Any, found: list[Any]) -> list[Any]:
        if isinstance(folder, int) or is_installed(os.path.abspath(os.fsdecode(folder or ".")) + os.sep):  # noqa: PTH100
            return found
        frame = sys._getframe(2)  # of who lists it, by whatever of Python's own
        while frame.f_back and re.match(
            f"<frozen |{re.escape(STDLIB)}(?!(site|dist)-packages)", frame.f_code.co_filename
        ):
            frame = frame.f_back
        if len(found) > 1 and (file := names[frame.f_code.co_filename]):
            note(f"list\t{file}:{frame.f_lineno} lists a folder")
        return found[::-1]

    class Entries(list[Any]):
        """What os.scandir gives, the last first."""

        def __enter__(self) -> Any:
            return self

        __iter__ = __enter__

        def __next__(self) -> Any:
            return self.pop() if self else next(iter(()))

        def __exit__(self, *error: object) -> None:
            self.clear()

        close = list.clear

    listdir, scandir = os.listdir, os.scandir

    @wraps(listdir)
    def list_names(path: Any = None) -> list[Any]:
        return order(path, listdir(path))

    def scan(path: Any = None) -> Any:
        with scandir(path) as found:
            return Entries(order(path, list(found))[::-1])

    os.listdir, os.scandir = list_names, scan


def note_calls(names: Names, lines: Mapping[str, list[int]], note: Callable[[str], None]) -> None:
    """Note calls of CALLED by the user's code, and which of some lines of its files are run."""
    import threading

    def profile(frame: Any, event: str, function: Any) -> None:
        caller = frame if event == "c_call" else frame.f_back if event == "call" else None
        if caller is None or not (file := names[caller.f_code.co_filename]):
            return
        if event == "call":
            called = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"
            if called.endswith(".watch_clock.<locals>.noting.<locals>.call"):  # in the place of one of the module time
                called = f"time.{frame.f_locals['name']}"
            if called in UNSEEDED and frame.f_locals.get(UNSEEDED[called]) is None:
                note(f"call\t{file}:{caller.f_lineno} calls {called.removesuffix('.__init__')}() without a seed")
        else:
            owner = function.__self__
            kind = owner if isinstance(owner, type) else type(owner)  # nothing of the user's own is asked for
            of = owner.__name__ if kind is ModuleType else kind.__module__
            called = f"{'os' if of == 'posix' else of}.{function.__qualname__}"
        if CALLED.fullmatch(called):
            what = "draws a seed from the system" if called.startswith("random.System") else f"calls {called}()"
            note(f"call\t{file}:{caller.f_lineno} {what}")

    def trace(frame: Any, event: str, argument: Any) -> Any:
        wanted = lines.get(names[frame.f_code.co_filename])
        if wanted is None:
            return None
        if event == "line" and frame.f_lineno in wanted:
            note(f"line\t{names[frame.f_code.co_filename]}:{frame.f_lineno}")
        return trace

    for module in (sys, threading):
        module.setprofile(profile)
        module.settrace(trace if lines else None)


def main() -> None:
    """Run a module as `python -m` does, observed as the options say."""
    import runpy

    options = json.loads(sys.argv[1])
    del sys.argv[:2]
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    names, note = Names(options["root"], options["source"]), lambda sentence: None
    if options["notes"]:
        note = Notes(open(options["notes"], "ab")).add  # noqa: SIM115, PTH123
    if options["backwards"]:
        list_backwards(names, note)
    if options["notes"]:
        note_calls(names, options["lines"], note)
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        sys.setprofile(None)
        sys.settrace(None)


if __name__ == "__main__":
    main()
