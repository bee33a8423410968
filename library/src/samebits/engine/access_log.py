"""What a training touches besides its inputs: files, folders, environment variables, addresses, programs.

Python tells an audit hook of each file that is opened and each folder that is listed, in the training's processes and
in those that load its data. What is known already (data, packages, the run's own directory) is passed over at once; the
rest is written to a file of the run as it is seen, so that being killed loses nothing. `findings` puts it together.
Native code that opens files without Python is not seen, but for safetensors and for files that are still mapped.
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from types import FrameType
from typing import Any

from .files import bytes_sha256, hash_cache, home, json_sha256, portable_name
from .inputs import hashes
from .secrets import WORDS

FOLDER = "accesses"  # in the directory of a run that has not finished; afterwards the record holds what is in it
EVENTS = {
    *("open", "sqlite3.connect", "os.listdir", "os.scandir", "os.rename", "socket.getaddrinfo", "socket.connect"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"),
}
STDLIB = sysconfig.get_path("stdlib") + os.sep
SITES = [each for each in sys.path if each.endswith(("site-packages", "dist-packages"))]  # also the user's
PACKAGES = tuple(
    f"{each}{os.sep}"
    for each in {*SITES, *map(sysconfig.get_path, ("purelib", "platlib")), str(Path(__file__).resolve().parents[1])}
)
KERNEL = ("/proc/", "/sys/", "/dev/")
# What the machine is made of: what libraries read there is none of the run's inputs
SYSTEM = (
    *("/etc/", "/usr/lib", "/lib", "/usr/local/lib", "/run/", "/var/lib/", "/var/cache/", "/System/", "/Library/"),
    *("/usr/share/fonts/", "/usr/share/zoneinfo/", "/usr/share/mime/", "/usr/share/locale/"),
)
# Of the user's folder: what libraries keep there for themselves, and what is nobody's business
PRIVATE = (
    *(".cache/matplotlib/*", ".config/matplotlib/*", ".cache/pip/*", ".cache/fontconfig/*", ".nv/*", ".triton/*"),
    *(".cache/torch/kernels/*", ".cache/torch/inductor/*", ".cache/wandb/*", ".config/wandb/*", ".pypirc"),
    *(".netrc", ".ssh/*", ".gnupg/*", ".aws/*", ".kube/*", ".git*", ".cache/huggingface/*token*"),
)
SOURCE = re.compile(r"\.(py|pyc|pyi|pth)$|\.(dist|egg)-info/")  # and what tells of a package
READS_SOURCE = re.compile(r"importlib|zipimport|/(linecache|tokenize|inspect|pkgutil|runpy|traceback|warnings)\.py$")
PASSES_ON = re.compile(r"/(pathlib|io|codecs|gzip|bz2|lzma|zipfile|fileinput|os|shutil|glob)(/\w+)?\.py$")
ASKS_FOR_OTHERS = re.compile(r"<frozen|.*/(os|posixpath|string|_collections_abc)\.py$")
ASKS_SYSTEM = re.compile(r"/(platform|uuid|ctypes/util|matplotlib/font_manager)\.py$")
# Trackers, and what looks for fonts the first time that a user draws something
TRACKERS = re.compile(r"/(wandb|mlflow|comet_ml|neptune|clearml|aim|tensorboard|litlogger|loggers)/|/font_manager\.py$")
LIBRARIES = re.compile(r"\.so(\.|$)|\(deleted\)$|/memfd:|/SYSV|^/anon|/bin/|\.(dylib|node)$")  # among what is mapped
HERE, LOGGER, TRAINING = "this computer", "a logger", "the training"  # where an address is, or who asked it
LOOPBACK = re.compile(r"(127\.[\d.]+|::1|localhost|0\.0\.0\.0|)$")
# Variables that are one's own: of these, and of those that look like a password, only whether they are set is kept
OWN = re.compile(
    rf"(?i){WORDS}|^(HOME|USER|LOGNAME|PWD|OLDPWD|HOSTNAME|PATH|TMPDIR|SHELL|TERM|DISPLAY|LANG|TZ|(.*_)?RANK)$"
    r"|^(PYTHON|LC_|SSH_|XDG_|SLURM_|PBS_|MASTER_|WORLD_|VIRTUAL_ENV)"
)
NODE = os.uname().nodename if hasattr(os, "uname") else ""
ALL = "*"  # in the place of a variable's name: the code went through all of them
GONE = "gone"  # in the place of a hash: the file was read, and was not there any more at the end
MOST_FOLDERS = 20  # that a record names one by one


def unrecorded(touched: Mapping[str, Any]) -> list[str]:
    """List, of what a record has observed, the addresses whose answers may have changed the result."""
    return [name for name, who in touched.get("addresses", {}).items() if who == TRAINING]


class AccessLog:
    """Collects what one process touches.

    Args:
        root: of the project.
        known: files and folders that need not be noted: the run's own.
        data: files and folders that are inputs: only that a folder was listed is noted.
        path: the folder for the logs of a run's processes; lines are kept back until its parent is there.
    """

    def __init__(self, root: Path, known: Collection[Path], data: Collection[Path], path: Path) -> None:
        self.arguments = (root, known, data, path)
        self.root, self.path = f"{root}{os.sep}", path
        self.not_listed = (*_prefixes(known), *PACKAGES, STDLIB, *KERNEL)
        self.known = (*_prefixes(data), *self.not_listed)  # the most frequent first
        self.seen: set[tuple[str, str]] = set()
        self.pending: list[str] = []
        self.ports: set[Any] = set()  # of addresses that were asked for by name
        self.copied: tuple[int, int] | None = None  # the place in the code that went through all variables
        self.process, self.file = 0, -1

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note one of the EVENTS."""
        if event in ("open", "sqlite3.connect"):
            self._open(_absolute(arguments[0]), arguments[2] or 0 if event == "open" else 0)
        elif event in ("os.listdir", "os.scandir"):
            name = _absolute("." if arguments[0] is None else arguments[0])
            known = f"{name}{os.sep}".startswith(self.not_listed) or ("listed", name) in self.seen
            if name and not known and not _opener()[1] and not _within(TRACKERS):
                self.note("listed", name)
        elif event == "os.rename":
            source, target = map(_absolute, arguments[:2])
            if ("written", source) in self.seen:
                self.note("written", target)
        elif event == "socket.getaddrinfo":
            self.ports.add(arguments[1])
            self._address(arguments[0], arguments[1])
        elif event == "socket.connect":
            address = arguments[1]
            if isinstance(address, tuple) and address[1] not in self.ports:
                self._address(address[0], address[1])
        elif not _within(ASKS_SYSTEM):
            words = arguments[1] if event in ("subprocess.Popen", "os.exec", "os.posix_spawn") else arguments[0]
            plain = isinstance(words, str | bytes | os.PathLike)
            names = [os.fsdecode(word) for word in (os.fsdecode(words).split() if plain else words)]
            self.note("program", os.path.basename(next((name for name in names if "=" not in name), "?")))  # noqa: PTH119

    def _open(self, name: str, flags: int) -> None:
        if not name or name.startswith(self.known) or ("written", name) in self.seen or ("read", name) in self.seen:
            return
        exists = os.path.isfile(name)  # noqa: PTH113
        if flags & (os.O_WRONLY | os.O_RDWR) and (flags & (os.O_TRUNC | os.O_EXCL) or not exists):
            self.note("written", name)
        elif exists and not flags & os.O_WRONLY:
            file, source = _opener()
            of_system = name.startswith(SYSTEM) and not (self._of_project(file) and _opener(directly=True)[0])
            if not (of_system or (source and SOURCE.search(name)) or _within(TRACKERS)):
                self.note("read", name)

    def _of_project(self, file: str) -> bool:
        return file.startswith(self.root) and not file.startswith((*PACKAGES, sys.prefix + os.sep))

    def _address(self, host: Any, port: Any) -> None:
        name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
        kind = HERE if LOOPBACK.match(name) or name == NODE else LOGGER if _within(TRACKERS) else TRAINING
        self.note(f"address {kind}", f"{name or 'localhost'}:{port}")

    def variable(self, name: str, frame: FrameType | None) -> None:
        """Note a variable, or ALL of them, that code of the project's asks for; `frame` is that which asks."""
        while frame and ASKS_FOR_OTHERS.match(frame.f_code.co_filename):
            frame = frame.f_back
        if frame and self._of_project(frame.f_code.co_filename):
            place = (id(frame), frame.f_lasti)
            self.copied = place if name == ALL else self.copied
            self.note("variable", ALL if place == self.copied else name)

    def note(self, kind: str, name: str) -> None:
        """Write a line, the first time that something is touched."""
        if (kind, name) not in self.seen:
            self.seen.add((kind, name))
            self.pending.append(f"{json.dumps([kind, name, time.time_ns()])}\n")
            self.flush()

    def flush(self) -> None:
        """Write what was kept back, if the run has a directory now."""
        if not self.pending or not self.path.parent.is_dir():
            return
        if self.process != os.getpid():  # one that was forked has a file of its own
            self.process = os.getpid()
            self.path.mkdir(exist_ok=True)
            self.file = os.open(self.path / f"{NODE}-{self.process}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        lines, self.pending = self.pending, []
        os.write(self.file, "".join(lines).encode())


def _absolute(path: Any) -> str:
    """Make a path absolute, links as they are; empty where it is the number of an open file."""
    return "" if isinstance(path, int) else os.path.abspath(os.fsdecode(path))  # noqa: PTH100


def _prefixes(paths: Collection[Path]) -> list[str]:
    """Write each path as it is and resolved; a folder with a separator at its end."""
    # not path.resolve(): until Python 3.13 it raises what is no OSError where a link leads to itself
    both = dict.fromkeys(each for path in paths for each in (path, Path(os.path.realpath(path))))
    return [str(each) if each.is_file() else f"{each}{os.sep}" for each in both]


def _opener(directly: bool = False) -> tuple[str, bool]:
    """Find the file of the code that opens something, the standard library aside; and whether it reads source code.

    With `directly`, none is found where the standard library does more than pass on a path that it is given.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if READS_SOURCE.search(file):
            return file, True
        if file != __file__ and not file.startswith("<frozen"):
            if file.startswith(PACKAGES) or not file.startswith(STDLIB):
                return file, False
            if directly and not PASSES_ON.search(file):
                break
        frame = frame.f_back
    return "", False


def _within(files: re.Pattern[str]) -> bool:
    """Whether code of these files is at work here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not files.search(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is not None


_log: AccessLog | None = None  # None: nothing is noted
_known: tuple[str, ...] = ()  # of the log
_busy = threading.local()  # `now`: this thread is in here, or is not to be listened to
_installed = False  # whether there is the hook, which cannot be taken out again


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in EVENTS or _log is None:
        return
    if event == "open":  # most files are of the data: for them this is all
        path = arguments[0]
        if type(path) is str:
            if path[:1] != "/":
                path = f"{os.getcwd()}/{path.removeprefix('./')}"  # noqa: PTH109
            if path.startswith(_known) and "/../" not in path:
                return
    if getattr(_busy, "now", False):
        return
    with paused(), suppress(Exception):  # whatever happens here must not befall the program
        _log.hear(event, arguments)


def _install() -> None:
    global _installed
    _installed = True
    environ: Any = type(os.environ)
    getitem, iterate, values = environ.__getitem__, environ.__iter__, vars(os.environ)["_data"]

    def get(self: Any, name: Any) -> Any:
        if _log is not None and self._data is values:
            _log.variable(os.fsdecode(name), sys._getframe(1))
        return getitem(self, name)

    def go_through(self: Any) -> Iterator[str]:
        if _log is not None and self._data is values:
            _log.variable(ALL, sys._getframe(1))
        return iter(iterate(self))

    environ.__getitem__, environ.__iter__ = get, go_through
    sys.addaudithook(_hook)
    import safetensors  # which opens files by itself; what imports it later gets what is put here

    for module in (safetensors, sys.modules.get("safetensors.torch"), sys.modules.get("safetensors.numpy")):
        if module is not None:
            module.safe_open = _told(module.safe_open)  # type: ignore[attr-defined]


def _told(function: Any) -> Any:
    """Make a function that tells the hook which file it opens."""

    def opens(path: Any, *arguments: Any, **options: Any) -> Any:
        sys.audit("open", path, "rb", os.O_RDONLY)
        return function(path, *arguments, **options)

    return opens


def start(root: Path, known: Collection[Path], data: Collection[Path], path: Path) -> None:
    """Begin to note what this process touches: the arguments are those of `AccessLog`."""
    global _log, _known
    if not _installed:
        _install()
    _log = AccessLog(root, known, data, path)
    _known = _log.known


def note(kind: str, name: str) -> None:
    """Note something that no event of Python's tells of."""
    if _log is not None:
        with paused():
            _log.note(kind, name)


def flush() -> None:
    """Write what was kept back before the run had a directory."""
    if _log is not None:
        _log.flush()


def stop() -> None:
    """End it."""
    global _log
    _log = None


@contextmanager
def paused() -> Iterator[None]:
    """Note nothing that this thread opens meanwhile."""
    before, _busy.now = getattr(_busy, "now", False), True
    try:
        yield
    finally:
        _busy.now = before


class Handle:
    """Part of what is sent to a process that loads data: it begins to note there, before anything else is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _join, (_log and _log.arguments,)


def _join(arguments: tuple[Any, ...] | None) -> Handle:
    if arguments and _log is None:
        start(*arguments)
    return Handle()


def findings(inputs: set[Path], packages: Collection[Path] = ()) -> dict[str, dict[str, Any]]:
    """Put together what all processes and all starts of the run have touched so far.

    Args:
        inputs: files that are inputs of the run, beside its data.
        packages: folders of packages in other places than the usual ones, whose files are no findings either.

    Returns:
        `outside`, the sha256 of each file that is no input, or GONE; `asked`, the environment variables that the
        project's code asked for; `listed`, folders; `touched`, addresses and programs; `clock`, what was noted of it.
    """
    log = _log
    if log is None:
        return {"outside": {}, "asked": {}, "listed": {}, "touched": {}, "clock": {}}
    found: dict[str, dict[str, int]] = {}  # of each kind, what was touched, and when at first
    log.flush()
    for line in [*log.pending, *(line for file in log.path.glob("*") for line in file.read_text().splitlines())]:
        with suppress(ValueError):  # one that a kill has cut off
            kind, name, when = json.loads(line)
            first = found.setdefault(kind, {})
            first[name] = min(when, first.get(name, when))
    root, written = log.arguments[0], found.get("written", {})
    known = (*log.known, *_prefixes(packages))
    read = {name for name, when in found.get("read", {}).items() if when < written.get(name, when + 1)}
    outside: dict[str, str] = {}
    with hash_cache(hashes()) as hash_file:
        for path in sorted(map(Path, read | (_mapped(log) - written.keys()))):
            real = path.resolve()
            if not ({path, real} & inputs or str(real).startswith(known) or _is_private(path)):
                name = portable_name(path, root)
                outside[name] = GONE
                with suppress(OSError):
                    outside[name] = hash_file(real)
    addresses = {name: kind[8:] for kind in sorted(found) if kind.startswith("address ") for name in found[kind]}
    return {
        "outside": outside,
        "asked": {name: _fingerprint(name) for name in sorted(found.get("variable", {}))},
        "listed": _listings(sorted(map(Path, found.get("listed", {}))), root),
        "touched": {"addresses": addresses, "programs": sorted(found.get("program", {}))},
        "clock": found.get("clock", {}),
    }


def _mapped(log: AccessLog) -> set[str]:
    """List the files, but for code, that are mapped into this process's memory, by whatever code."""
    maps = Path("/proc/self/maps")
    names = re.findall(r"(?m)(/.*)$", maps.read_text()) if maps.exists() else []
    return {name for name in names if not (LIBRARIES.search(name) or name.startswith((*SYSTEM, *log.known)))}


def _is_private(path: Path) -> bool:
    inside = path.relative_to(home()).as_posix() if path.is_relative_to(home()) else ""
    caches = (os.environ.get("MPLCONFIGDIR") or "//", f"{tempfile.gettempdir()}/torchinductor")
    return str(path).startswith(caches) or "__pycache__" in path.parts or any(fnmatch(inside, each) for each in PRIVATE)


def _fingerprint(name: str) -> str:
    """Tell a variable's value from 255 of 256 others, and not what it is: from a whole hash, one could guess it."""
    if name == ALL or name not in os.environ or OWN.search(name):
        return "set" if name == ALL or name in os.environ else "not set"
    return bytes_sha256(f"{name}={os.environ[name]}".encode())[:2]


_listdir = getattr(os.listdir, "__wrapped__", os.listdir)  # in a re-run, that which the observer has exchanged


def _listings(folders: list[Path], root: Path) -> dict[str, str]:
    """Describe folders: 8 digits of the hash of the names in each, and 8 of their order as the system gives them."""
    found = {}
    for folder in folders:
        with suppress(OSError):  # it is gone
            names = _listdir(folder)
            if not _is_private(folder):
                found[portable_name(folder, root)] = f"{json_sha256(sorted(names))[:8]} {json_sha256(names)[:8]}"
    few, rest = dict(list(found.items())[:MOST_FOLDERS]), list(found.values())[MOST_FOLDERS:]
    both = (json_sha256([each.split()[part] for each in rest])[:8] for part in (0, 1))
    return few | ({f"and {len(rest)} more": " ".join(both)} if rest else {})
