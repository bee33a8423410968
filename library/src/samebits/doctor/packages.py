"""What is installed: every file against the list of its package, versions and hashes against the locks.

A lock has the hash of a wheel, a file that installers do not keep. What ties the wheel to what is installed is noted by
requirements/install.sh, in .installed of the environment: each line of the locks whose hashes the installer has
compared, and the sha256 of each package's RECORD. A RECORD has the hash of each file. So what is not as noted, or has
another line in the locks today, is not known to come from the wheel that is locked. Who can write to the environment
can write those notes, too: they show what was changed by mistake or behind one's back, and are no signature.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.util import cache_from_source
from pathlib import Path

from packaging.utils import canonicalize_name, canonicalize_version
from rich.console import Console
from rich.progress import Progress

from ..engine.files import file_sha256
from ..engine.loaded_code import STARTUP, Package, base64_of, installed, is_code, is_foreign
from ..engine.locks import ADDED, WITHOUT_LOCK, Locked, all_locks, chosen_locks, own_name, read_lock, read_locks
from ..engine.project import Project
from . import ATTENTION, PROBLEM, Check

SECTION = "packages"
MOST_NAMES = 4  # in a line
OF_VIRTUALENV = ("_virtualenv.py", "_virtualenv.pth")


@dataclass
class Environment:
    """The environment that this Python belongs to, and the locks that it was made from."""

    root: Path
    prefix: Path = field(default_factory=lambda: Path(sys.prefix))
    locks: list[str] = field(default_factory=list)  # those that must be installed; none in an adopted project

    @classmethod
    def of(cls, here: Project) -> Environment:
        """Find the locks, by what `make setup` was told, else by the build of PyTorch that is here."""
        found = cls(here.root)
        version = next((each.version for each in installed().get("torch", ())), "")
        found.locks = [] if here.adopted else chosen_locks(here.root, found.prefix, version)
        return found

    def locked(self, *names: str) -> dict[str, Locked]:
        """Read locks, by default those that must be installed."""
        return read_locks(self.root, names or self.locks)

    def notes(self) -> str | None:
        """Read what the last `make setup` has noted; None where there is nothing, or only what older ones did."""
        paths = [self.prefix / ".installed", *self.prefix.glob(f"{ADDED}*")]
        texts = [path.read_text(encoding="utf-8").partition("\n")[2] for path in paths if path.exists()]
        return ("".join(texts) if paths[0].exists() else "") or None

    @property
    def again(self) -> str:
        """The command that installs everything again."""
        if not self.locks:
            return "pip install --force-reinstall --no-deps <package>, or as you have installed it"
        return "make clean setup" if self.prefix.is_relative_to(self.root) else "docker compose build --no-cache"


def folders() -> list[str]:
    """List where this environment's packages are, with a separator at the end."""
    return sorted({os.path.join(sysconfig.get_path(name), "") for name in ("purelib", "platlib")})  # noqa: PTH118


def check_packages(here: Environment, bytecode: bool = False) -> Iterator[Check]:
    """Check all packages; with bytecode, also that what Python runs is what their source says (a minute)."""
    yield from _versions(here)
    yield from _wheels(here)
    yield from _files(here)
    yield from _added(here)
    yield from _elsewhere()
    if bytecode:
        yield from _bytecode()


def own_packages() -> list[tuple[str, Package]]:
    """List what is installed in this environment, and not what else Python can import."""
    places = folders()
    return [(name, each) for name, several in installed(True).items() for each in several if each.folder in places]


def _present() -> dict[str, str]:
    """List the versions of what is installed; an editable package is code of the user's."""
    return {
        canonicalize_name(name): canonicalize_version(each.version or "")
        for name, each in own_packages()
        if not any(file.startswith("__editable__") for file in each.files)
    }


def _versions(here: Environment) -> Iterator[Check]:
    present, wanted = _present(), here.locked()
    if not wanted:
        text = f"{len(present)}, without a lock that samebits knows: `samebits doctor <run>` compares with a run's"
        yield Check(SECTION, "versions", text)
        return
    missing = [f"{name} {each.version}" for name, each in wanted.items() if name not in present]
    others = [
        f"{name} {present[name]} (locked: {each.version})"
        for name, each in wanted.items()
        if name in present and present[name] != each.version
    ]
    known = read_locks(here.root, all_locks(here.root)).keys() | WITHOUT_LOCK | {own_name(here.root)}
    more = [f"{name} {version}" for name, version in present.items() if name not in known]
    count = Counter((name, each.folder) for name, each in own_packages())
    if twice := [name for (name, _), number in count.items() if number > 1]:
        yield Check(SECTION, "there twice", few(twice), PROBLEM, here.again)
    if missing:
        yield Check(SECTION, "missing", few(missing), PROBLEM, here.again)
    if others:
        yield Check(SECTION, "other versions", few(others), PROBLEM, here.again)
    if not missing and not others:
        yield Check(SECTION, "versions", f"{len(wanted)} packages, as {', '.join(here.locks)} say")
    if more:
        names = " ".join(each.partition(" ")[0] for each in more)
        yield Check(SECTION, "in no lock", few(more), ATTENTION, f"{sys.executable} -m pip uninstall {names}")


def _wheels(here: Environment) -> Iterator[Check]:
    """Compare today's locks with those that were installed, and each package's RECORD with what it was then."""
    wanted = here.locked() | here.locked("build", "uv")
    if not here.locks:
        return
    for name, each in wanted.items():
        if each.wheel:
            yield from _wheel_here(here, name, each)
    if (text := here.notes()) is None:
        found = "not known: this environment was not made by this project's make setup"
        yield Check(SECTION, "wheels", found, ATTENTION, here.again)
        return
    noted = read_lock(text)
    present = _present()
    unchecked = [
        name
        for name, each in wanted.items()
        if name in present and not each.wheel and not (name in noted and noted[name].hashes <= each.hashes)
    ]
    if unchecked:
        found = f"{few(unchecked)}: other hashes are locked today than those that its wheel was compared with"
        yield Check(SECTION, "wheels", found, PROBLEM, "make setup")
    lists = dict(re.findall(r"(?m)^(\S+)-[^-\s]+\.dist-info ([0-9a-f]{64})$", text))
    now = {
        path.parent.name.removesuffix(".dist-info").rpartition("-")[0]: file_sha256(path)
        for folder in folders()
        for path in Path(folder).glob("*.dist-info/RECORD")
    }
    others = sorted(name for name in lists.keys() | now.keys() if lists.get(name) != now.get(name))
    gone = [name for name in others if name not in now and canonicalize_name(name) in present]
    edited = [name for name in others if name in lists and name in now]
    if edited or gone:
        found = f"{few(edited + gone)}: the list of its files (RECORD) is not the one that make setup has noted"
        yield Check(SECTION, "wheels", found, PROBLEM, "make setup" if not gone else here.again)
    if not (unchecked or edited or gone):
        yield Check(SECTION, "wheels", f"{len(wanted)} with the hashes in today's locks, as they were installed")


def _wheel_here(here: Environment, name: str, locked: Locked) -> Iterator[Check]:
    """Compare a wheel that the project holds with its lock, and what is installed with the wheel."""
    path = here.root / locked.wheel
    restore = f"git checkout -- {path.parent.relative_to(here.root)} requirements/{name}.txt"
    if not path.is_file():
        yield Check(SECTION, f"wheel of {name}", f"{locked.wheel} is missing", PROBLEM, restore)
    elif file_sha256(path) not in locked.hashes:
        yield Check(SECTION, f"wheel of {name}", f"{locked.wheel} is not the one that is locked", PROBLEM, restore)
    elif name in installed(True):
        with zipfile.ZipFile(path) as wheel:
            (record,) = [each for each in wheel.namelist() if each.endswith(".dist-info/RECORD")]
            rows = (line.partition(",sha256=") for line in wheel.read(record).decode().splitlines())
            brought = {file: rest for file, _, rest in rows if rest}
        files = installed(True)[name][0].files
        if any(files.get(file) != rest for file, rest in brought.items()):
            yield Check(
                SECTION, f"wheel of {name}", f"what is installed is not {locked.wheel}", PROBLEM, "make clean setup"
            )
        else:
            yield Check(SECTION, f"wheel of {name}", f"{locked.wheel}, which is locked, is what is installed")


def _files(here: Environment) -> Iterator[Check]:
    """Hash all files of all packages, and compare them with what their packages' lists say."""
    wanted: dict[str, set[str]] = defaultdict(set)  # two packages may bring the same file: one of them is right
    owner: dict[str, str] = {}
    size = 0
    without = []
    for name, each in own_packages():
        if not each.files:
            without.append(name)
        for file, rest in each.files.items():
            if "__pycache__/" not in file:  # which Python writes anew
                path = os.path.normpath(each.folder + unquoted(file))
                wanted[path].add(rest.partition(",")[0])
                owner[path] = name
                size += int(rest.partition(",")[2] or 0)
    changed: dict[str, list[str]] = defaultdict(list)
    serious, shared = set(), set()
    with (
        Progress(console=Console(file=sys.stderr), transient=True) as bar,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        task = bar.add_task("Hashing what is installed", total=size)
        for path, (digest, length) in zip(wanted, pool.map(_digest, wanted), strict=True):
            bar.advance(task, length)
            if digest not in wanted[path]:
                name, file = owner[path], _short(path)
                changed[name].append(f"{file} is {'changed' if digest else 'missing'}")
                serious |= {name} if path.startswith(tuple(folders())) and ".dist-info/" not in file else set()
                if digest and (os.path.islink(path) or os.stat(path).st_nlink > 1):  # noqa: PTH114, PTH116
                    shared.add(name)  # with uv's cache, from which it would come again
    if without:
        yield Check(SECTION, "files", f"{few(without)}: without a list of files to compare with", ATTENTION)
    for name, files in sorted(changed.items(), key=lambda row: (row[0] not in serious, row[0])):
        mend = (
            f"{Path(sys.executable).parent / 'uv'} cache clean {name} && {here.again}" if name in shared else here.again
        )
        yield Check(SECTION, name, few(files), PROBLEM if name in serious else ATTENTION, mend)
    if not changed:
        yield Check(SECTION, "files", f"{len(wanted):,} files ({size / 1e9:.1f} GB), each as its package brought it")


def _digest(path: str) -> tuple[str, int]:
    """Hash a file as RECORD does; an empty text where it cannot be read."""
    try:
        return base64_of(file_sha256(Path(path))), os.path.getsize(path)  # noqa: PTH202
    except OSError:
        return "", 0


def unquoted(name: str) -> str:
    """Read a path as RECORD, a table of commas, has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _short(path: str) -> str:
    """Name a file by its path in the environment."""
    for folder in (*folders(), os.path.join(sys.prefix, "")):  # noqa: PTH118
        if path.startswith(folder):
            return path[len(folder) :]
    return path


def _added(here: Environment) -> Iterator[Check]:
    """Find code among the packages that none of them has brought."""
    inside: list[str] = []
    loose: list[str] = []
    run: list[str] = []
    for folder in folders():
        listed = {unquoted(file) for _, each in own_packages() if each.folder == folder for file in each.files}
        tops = {name.partition("/")[0] for name in listed}
        for name in _code(folder):
            top = name.partition("/")[0]
            if name in listed or name in OF_VIRTUALENV or top.endswith((".dist-info", ".egg-info")):
                continue
            if (top == name and name.endswith(".pth")) or top.partition(".")[0] in STARTUP:
                run.append(name)
            else:
                (inside if top in tops and top != name else loose).append(name)
    if inside:
        yield Check(SECTION, "added files", f"{few(inside)}: of no package's list", PROBLEM, here.again)
    if run:
        yield Check(SECTION, "run at each start", f"{few(run)}: of no package's list", PROBLEM, here.again)
    if loose:
        tops_of = sorted({name.partition("/")[0] for name in loose})
        yield Check(SECTION, "added files", f"{few(tops_of)}: of no package", ATTENTION, here.again)


def _code(folder: str) -> Iterator[str]:
    """List the files of code in a folder, also behind links, without cached bytecode."""
    seen: set[str] = set()
    for parent, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        inner[:] = [] if real in seen else [name for name in inner if name != "__pycache__"]
        if real not in seen:
            below = os.path.relpath(parent, folder).replace(os.sep, "/")
            yield from (name if below == "." else f"{below}/{name}" for name in names if is_code(name))
        seen.add(real)


def _elsewhere() -> Iterator[Check]:
    """Find packages that are installed here and would be imported from elsewhere."""
    places = tuple(folders())
    python = os.path.join(sysconfig.get_path("stdlib"), "")  # noqa: PTH118 (whose `test` goes before a package's)
    allowed = tuple({python, *places, *(os.path.join(os.path.realpath(each), "") for each in places)})  # noqa: PTH118
    tops = {
        name.partition("/")[0].partition(".")[0]: package
        for package, each in own_packages()
        for name in each.files
        if is_code(name) and not name.startswith("__editable__")
    }
    found = []
    for top, package in sorted(tops.items()):
        spec = PathFinder.find_spec(top) if top.isidentifier() else None
        if spec and spec.origin and not spec.origin.startswith(allowed):
            found.append(f"{package} from {Path(spec.origin).parent}")
    if found:
        yield Check(SECTION, "imported from elsewhere", few(found), PROBLEM, "unset PYTHONPATH, or move that away")


def _bytecode() -> Iterator[Check]:
    files = [folder + name for folder in folders() for name in _code(folder) if name.endswith(".py")]
    found = []
    with Progress(console=Console(file=sys.stderr), transient=True) as bar:
        for file in bar.track(files, description="Compiling what is installed"):
            if is_foreign(file, cache_from_source(file)):
                found.append(_short(file))
    mend = f"{sys.executable} -m compileall -q -f {' '.join(folders())}"
    if found:
        yield Check(SECTION, "bytecode", f"{few(found)}: Python runs other code than the source", PROBLEM, mend)
    else:
        yield Check(SECTION, "bytecode", f"{len(files):,} files of source, and Python runs what they say")


def few(names: Iterable[str]) -> str:
    """List the first of several names, and say how many there are besides."""
    listed = list(names)
    more = f" and {len(listed) - MOST_NAMES} more" if listed[MOST_NAMES:] else ""
    return ", ".join(listed[:MOST_NAMES]) + more
