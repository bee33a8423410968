"""Files that are there whole or not at all, that grow while a run trains, that one process at a time may use; hashes.

Large files that have not changed are not hashed again. A file is taken to be unchanged while all that the system notes
of it is: device, number, size, and the times of the last change of its content (mtime) and of these notes themselves
(ctime). The latter cannot be set back, so an edit that restores the file's date is seen. A file that has just changed
is not remembered: it could change once more within the same tick of the clock. Verdicts do not look there; they read
every byte.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from .distributed import is_first
from .errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # OSError.errno where there is no room for a file
SEAL = hashlib.sha256().digest_size  # bytes after the content of a sealed file


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even if the machine stops in between."""
    replace_atomically(path, lambda file: file.write(content))


def write_sealed(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file in the same way, with the sha256 of its content at its end.

    Args:
        path: of the file.
        write: called with an object that has a `write` method; called once.
    """

    def write_and_seal(file: IO[bytes]) -> None:
        sealing = _Sealing(file)
        write(sealing)
        if sealing.error:
            raise sealing.error
        file.write(sealing.sha256.digest())

    replace_atomically(path, write_and_seal)


def is_sealed(path: Path) -> bool:
    """Whether a file is there, whole and unchanged since `write_sealed`."""
    try:
        with opened(path) as file:
            left = os.fstat(file.fileno()).st_size - SEAL
            sha256 = hashlib.sha256()
            while left > 0 and (block := file.read(min(left, 2**20))):
                sha256.update(block)
                left -= len(block)
            return left == 0 and file.read() == sha256.digest()
    except OSError:
        return False


class _Sealing:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None  # kept back: torch.save turns it into one that does not name the cause

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        if self.error is None:
            try:
                self.file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        self.file.flush()


def replace_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write beside the file, force it to the disk, and only then let it take the file's name.

    Args:
        path: of the file.
        write: called with the open file beside it; called once.
    """
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)  # of an earlier process; or what is no file, and would be waited for
        with new.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException as error:
        new.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename or new) == str(new):  # a write says none
            error.filename = str(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name, too, is on the disk now
    finally:
        os.close(folder)


class AppendLog:
    """Knows how long the file is and what it holds, so that a checkpoint can say where to go on.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written_here = is_first()  # of several processes of one training, the others only keep count
        self.length = 0  # bytes
        self.sha256 = hashlib.sha256()

    def start(self, content: bytes = b"") -> None:
        """Begin anew."""
        if self.written_here:
            self.path.unlink(missing_ok=True)  # it may be a link, or what is no file
            self.path.write_bytes(b"")
        self.length, self.sha256 = 0, hashlib.sha256()
        self.append(content)

    def append(self, content: bytes) -> None:
        """Write at the end."""
        if self.written_here:
            with self.path.open("ab") as file:
                file.write(content)
        self.length += len(content)
        self.sha256.update(content)

    def position(self) -> dict[str, Any]:
        """Tell how much there is, for a checkpoint; it is on the disk then."""
        if self.written_here and self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        return {"length": self.length, "sha256": self.sha256.hexdigest()}

    def rewind(self, position: dict[str, Any]) -> None:
        """Forget what was written after that position: the run will write it again.

        Raises:
            UserError: what was written before has changed.
        """
        if not self.written_here:
            return
        content = self.path.read_bytes()[: position["length"]] if self.path.is_file() else b""
        self.length, self.sha256 = len(content), hashlib.sha256(content)
        if self.sha256.hexdigest() != position["sha256"]:
            raise UserError(
                f"{self.path} is missing, or not what the run had written before it was cut off: move the folder"
                f" {self.path.parent / 'checkpoints'} away, and the same command trains from the beginning."
            )
        if self.path.exists():
            with self.path.open("rb+") as file:
                file.truncate(self.length)


BUSY = "is being trained by"
AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # Windows has no such pipes
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # where a file system has none


@contextmanager
def only_process(path: Path, what: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends.

    Processes that load data do not hold it; it holds across containers and, where the file system can, across machines.

    Args:
        path: the lock's own file, which stays.
        what: is being locked, for the message.

    Raises:
        UserError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)  # soft ones outlive their process
    try:
        lock.acquire()
        with suppress(OSError):
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    except Timeout:
        holder = "another process"
        with suppress(OSError):  # Windows keeps others from reading it
            holder = path.read_text().strip() or holder
        raise UserError(f"{what} {BUSY} {holder}: wait until it has ended, or stop it and start this again.") from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        print(f"warning: {path.parent} cannot be locked ({error.strerror}): start no run twice.", file=sys.stderr)
    try:
        yield
    finally:
        lock.release()


# what systems, editors and file servers leave in folders, and no program reads; data/ is looked at without it
JUNK = (
    *(".DS_Store", "._*", ".AppleDouble", ".Spotlight-V100", ".Trashes", ".fseventsd", "Thumbs.db", "ehthumbs.db"),
    *("desktop.ini", ".directory", ".ipynb_checkpoints", "__pycache__", ".*.sw[a-p]", "*~", ".~lock.*", ".nfs*"),
    *(".fuse_hidden*", ".gitkeep"),
)
_junk = re.compile("|".join(map(fnmatch.translate, JUNK)))


def files_in(folder: Path) -> Iterator[Path]:
    """List the files in a folder and below, without JUNK, in no order; also behind links to folders, each once."""
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [name for name in folders if real not in seen and not _junk.match(name)]
        if real not in seen:
            yield from (path for name in names if not _junk.match(name) and (path := Path(parent, name)).is_file())
        seen.add(real)


def opened(path: Path) -> BufferedReader:
    """Open a file to be read; an OSError where it is none: of a named pipe nobody knows when it is written to."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | AT_ONCE))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.ENXIO, "it is no file", str(path))


SHARED = Path("/dev/shm")  # memory through which processes hand over batches


def no_room(error: Exception, folder: Path | str) -> str | None:
    """Say where there is no room, by default in `folder`, and what makes some; None where the error is another one."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        if error.filename or not SHARED.is_dir() or shutil.disk_usage(SHARED).free > 2**20:
            return f"{Path(error.filename).parent if error.filename else folder} is full ({error.strerror}): make room"
    elif not re.search(r"</torch_.*No space left|out of shared memory", str(error)):
        return None
    mend = f"see what fills it (ls -l {SHARED}), give a container more (--shm-size), or data.module.num_workers=0"
    return f"{SHARED}, through which processes hand over batches, is full: {mend}"


def file_sha256(path: Path) -> str:
    """Hash a file's whole content; hexadecimal."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path, paths: Iterable[Path], hash_file: Callable[[Path], str] = file_sha256) -> dict[str, str]:
    """Hash each file, named by its path relative to `folder`, with / on every system, sorted."""
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(paths)}


def locate(folder: Path, name: str) -> Path:
    """Return the path of a name that begins in the folder, at `~/`, or at `/`."""
    return folder / (Path(name).expanduser() if name.startswith("~/") else name)


def home() -> Path:
    """Return the user's folder; one that is none, where nobody has one."""
    folder = os.path.expanduser("~")  # noqa: PTH111 (which fails where nobody has one)
    return Path(folder if folder not in ("~", "/") else "/nobody")


def portable_name(path: Path, root: Path) -> str:
    """Name a file by its path from the project's folder, from `~`, or from `/`; whose folders these are is left out."""
    for folder, name in ((root, ""), (root.resolve(), ""), (home(), "~/")):
        if path.is_relative_to(folder):
            return f"{name}{path.relative_to(folder).as_posix()}"
    user, parts = {home().name, os.environ.get("USER") or "root"}, path.parts
    places = [number for number, part in enumerate(parts) if part in user or parts[number - 1] in ("home", "Users")]
    return ".../" + "/".join(parts[max(places) + 1 :]) if places else path.as_posix()


def present_sha256(
    folder: Path, names: Iterable[str], hash_file: Callable[[Path], str] = file_sha256
) -> dict[str, str]:
    """Hash those of the named files that are there; `locate` says where."""
    return {name: hash_file(locate(folder, name)) for name in names if locate(folder, name).is_file()}


def json_sha256(value: Any) -> str:
    """Hash a value made of dicts, lists, strings, numbers, booleans and None; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        content = text.encode(errors="surrogateescape")  # names of files may be no UTF-8
    except UnicodeEncodeError:  # of nobody's files
        content = text.encode(errors="surrogatepass")
    return hashlib.sha256(content).hexdigest()


def bytes_sha256(content: bytes) -> str:
    """Hash bytes; hexadecimal."""
    return hashlib.sha256(content).hexdigest()


HASHES = Path(".cache/hashes.json")  # in the project's folder
SETTLED = 10.0  # seconds since a file's last change; the clocks of two computers may disagree by some of them
Notes = list[int]
Known = dict[str, tuple[Notes, str]]


@contextmanager
def hash_cache(path: Path) -> Iterator[Callable[[Path], str]]:
    """Give a function that hashes a file, as `file_sha256`, unless its hash is known.

    Args:
        path: of the file in which hashes are kept; one that is damaged, or cannot be written, is done without.
    """
    before: Known | None = None  # read when a file is asked for
    known: Known = {}

    def hash_file(file: Path) -> str:
        nonlocal before
        if before is None:
            before = _read(path)
            known.update(before)
        name, now = str(file.resolve()), _notes(file)
        if name in known and known[name][0] == now:
            return known[name][1]
        known.pop(name, None)
        begin = time.time()
        sha256 = file_sha256(file)
        if now == _notes(file) and _settled(file, begin):
            known[name] = (now, sha256)
        return sha256

    yield hash_file
    if before is not None and known != before:
        with suppress(OSError):
            _write(path, {name: each for name, each in known.items() if Path(name).exists()})


def _notes(file: Path) -> Notes:
    found = file.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _settled(file: Path, now: float) -> bool:
    found = file.stat()
    changes_are_noted = sys.platform != "win32"  # which has the time of creation in the place of ctime
    return changes_are_noted and max(found.st_mtime, found.st_ctime) < now - SETTLED


def _read(path: Path) -> Known:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        files: dict[str, Any] = kept["files"]
        if kept["sha256"] != json_sha256(files):
            return {}
        return {name: (notes, sha256) for name, (notes, sha256) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(path: Path, known: Known) -> None:
    """Write a file of its own, which then takes the name: other processes may do the same at this moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {name: list(each) for name, each in known.items()}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8") as new:
        json.dump({"sha256": json_sha256(files), "files": files}, new)
    Path(new.name).replace(path)
