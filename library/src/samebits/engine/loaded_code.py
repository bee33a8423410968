"""The code that a training had loaded, by content: packages, Python itself, shared objects, and what lies elsewhere.

Two trainings of the same record may load different modules of a package: by a logger, a validation less, an import in
a function. So a package is known by its RECORD, the list of its files and their hashes that each wheel brings: its
digest is the same whatever was loaded, and loaded files that are not as the list says are named (`patched`). What was
loaded follows from both, and where the list was edited together with a file, its digest is another. A list of the 3,500
loaded files would make the record ten times as long.

What is not seen: that a package's cached bytecode is not that of its source, in a training. To compile all takes half
as long as a short training, so it is done in a re-run whose results are not the recorded ones.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import site
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.parser import HeaderParser
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.metadata import distributions
from importlib.util import MAGIC_NUMBER, source_hash
from marshal import loads
from operator import itemgetter
from pathlib import Path
from types import CodeType
from typing import Any

from .files import HASHES, bytes_sha256, file_sha256, hash_cache
from .inputs import LIBRARY
from .project import project

Modules = dict[str, str]  # name and file
STARTUP = ("sitecustomize", "usercustomize")  # modules that Python itself loads at each start, if they are there
COMPILE_ALL = "SAMEBITS_COMPILE_ALL"  # environment variable of a re-run: compare the bytecode of all that was loaded
PRELOADED = ("LD_PRELOAD", "LD_AUDIT")  # environment variables, for the system's loader
CODE = (".py", ".pyc", ".pth", ".so", ".pyd", ".dylib")  # ends of names: what Python or the system's loader runs
GENERATED = re.compile(r"/(torchinductor_[^/]*|\.?triton(_cache)?)/")  # by compilers, while a training runs
LARGE = 2**18  # bytes; a larger file's hash is kept from one training to the next, while the file is unchanged
HUGE = 2**29  # bytes; of larger files, as CUDA's are, the size alone is compared: to read them takes seconds
PRIME = 2**61 - 1


def loaded_modules() -> Modules:
    """List the modules that are loaded from files."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name: file for name, file in files.items() if isinstance(file, str) and os.path.isfile(file)}  # noqa: PTH113


def mapped_objects(maps: Path = Path("/proc/self/maps")) -> set[str]:
    """List the program and the shared objects that the system has loaded; none where it does not say, as Linux does."""
    rows = (line.split(maxsplit=5) for line in maps.read_text(errors="replace").splitlines()) if maps.exists() else ()
    files = {row[5] for row in rows if len(row) == 6 and "x" in row[1] and row[5].startswith("/")}
    return {file for file in files if os.path.isfile(file)}  # noqa: PTH113


# --- what is installed


@dataclass
class Package:
    """An installed package; of each file of code that its RECORD has a hash of, `digest,size` by its name."""

    version: str
    folder: str  # with a separator at its end
    files: dict[str, str]

    def listed(self) -> dict[str, str]:
        """List the files' hashes; those of an editable installation hold paths of this computer."""
        names = (name for name in self.files if not name.startswith("__editable__"))
        return {name: self.files[name].partition(",")[0] for name in names}


@cache
def installed(all_files: bool = False) -> dict[str, list[Package]]:
    """List all packages that can be imported, with code or all files; where one is there twice, the first counts."""
    found: dict[str, list[Package]] = {}
    for each in distributions():
        text = each.read_text("METADATA") or each.read_text("PKG-INFO") or each.read_text("") or ""  # "": it is a file
        about = HeaderParser().parsestr(text.partition("\n\n")[0])  # each.metadata would parse the README as well
        folder = os.path.join(str(each.locate_file("")), "")  # noqa: PTH118 (60,000 Paths would take two seconds)
        # path,sha256=digest,size; no module's needs quotes
        rows = (line.partition(",sha256=") for line in (each.read_text("RECORD") or "").splitlines())
        files = {file: rest for file, _, rest in rows if rest and (all_files or is_code(file))}
        package = Package(about["Version"], folder, files)
        found.setdefault(about["Name"].lower().replace("_", "-"), []).append(package)
    return dict(sorted(found.items()))


def is_code(name: str) -> bool:
    """Whether Python or the system's loader runs a file of this name."""
    return (name.endswith(CODE) or ".so." in name) and not name.startswith("..")


def package_versions() -> dict[str, str]:
    """List all packages that can be imported, and their versions."""
    return {name: first.version for name, (first, *_) in installed().items()}


def summary(files: dict[str, str]) -> str:
    """Put files, names and digests, into one line: how many, a sha256, and two sums that find the one that changed.

    The sums are those of an error-correcting code: where one file's digest, as a number, changes by d, they change by d
    and by d times the number of its name, so that the quotient is the name's.
    """
    first = second = 0
    for name, digest in files.items():
        first += (value := int.from_bytes(digest.encode()[:11], "big"))
        second += value * _number(name)
    sha256 = hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in sorted(files.items())).encode())
    return f"{len(files)} files {sha256.hexdigest()[:32]} {first % PRIME:016x} {second % PRIME:016x}"


def changed_file(package: str, one: str, other: str) -> str | None:
    """Name the file by which two summaries of a package differ; None where there are several, or it is not here."""
    (a, b), (c, d) = ([int(each, 16) for each in text.split()[-2:]] for text in (one, other))
    names = [name for each in installed().get(package, ()) for name in each.files]
    number = (d - b) * pow(c - a, -1, PRIME) % PRIME if a != c else None
    return next((name for name in names if _number(name) == number), None)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big") + 1


# --- what was loaded


@dataclass
class Loaded:
    """Each loaded file in its place: names, and what stands for the content."""

    loaded: dict[str, str] = field(default_factory=dict)  # packages, and modules in site-packages that are of none
    patched: dict[str, str] = field(default_factory=dict)  # files of packages that are not as they were installed
    shadows: dict[str, str] = field(default_factory=dict)  # packages that were imported from elsewhere, and from where
    startup: dict[str, str] = field(default_factory=dict)  # what Python ran before the training
    bytecode: dict[str, str] = field(default_factory=dict)  # files whose cached bytecode is not that of their source
    preloaded: dict[str, str] = field(default_factory=dict)  # shared objects that were put before all others
    objects: dict[str, str] = field(default_factory=dict)  # shared objects of the system
    stdlib: dict[str, str] = field(default_factory=dict)  # modules of Python's own library
    outside: dict[Path, str] = field(default_factory=dict)  # the rest; paths, and names to be written down
    shadowing: list[Path] = field(default_factory=list)  # the folders and files of such packages

    def as_record(self) -> dict[str, dict[str, str]]:
        """Give what the record's environment holds."""
        return {
            key: dict(sorted(part.items())) for key, part in vars(self).items() if key not in ("outside", "shadowing")
        }


def outside_files(loaded: Loaded, hashed: Iterable[str]) -> dict[str, str]:
    """Find loaded code that is no input of the run and belongs to no installed package: name and sha256.

    Of a path outside of the project only what follows its root is kept, `.../package/name.py`, where the root is the
    folder that Python found it in: that would tell of this computer, and mean nothing on another.

    Args:
        loaded: what is, from `find_loaded()`.
        hashed: the files that are inputs, relative to the folder of the project's packages.
    """
    inputs = {project().source / name for name in hashed}
    names = {path: name for path, name in loaded.outside.items() if path not in inputs}
    while len(set(names.values())) < len(names):  # of two roots: the folder above tells them apart
        count = Counter(names.values())
        names = {path: name if count[name] == 1 else _longer(path, name) for path, name in names.items()}
    return {name: file_sha256(path) for path, name in sorted(names.items(), key=itemgetter(1))}


def _longer(path: Path, name: str) -> str:
    return "/".join(["...", *path.parts[-name.count("/") - 1 :]])


def find_loaded(modules: Modules | None = None) -> Loaded:
    """Sort what is loaded by where it comes from: these modules, by default all, and all shared objects."""
    modules = loaded_modules() if modules is None else modules
    cached = (project().runs if project().adopted else project().root) / HASHES.with_name("libraries.json")
    with hash_cache(cached) as hash_large:
        sorting = _Sorting(hash_large)
        for name, file in sorted(modules.items()):
            sorting.sort(file, name)
        for file in sorted(mapped_objects()):
            sorting.sort(file)
        sorting.finish()
    return sorting.found


class _Sorting:
    """Puts files, one after the other, into their places in `found`.

    Args:
        hash_large: hashes a file, unless its hash is known.
    """

    def __init__(self, hash_large: Callable[[Path], str]) -> None:
        self.found, self.hash_large = Loaded(), hash_large
        site_folders = {sysconfig.get_path(name) for name in ("purelib", "platlib")} | set(site.getsitepackages())
        if site.ENABLE_USER_SITE:
            site_folders.add(site.getusersitepackages())
        self.sites = _folders(site_folders)  # of the system's Python, too, where a venv uses them
        self.stdlib = _folders({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
        self.library = _folders({str(LIBRARY)})
        self.python = _folders({sys.prefix, sys.base_prefix})
        self.owners: dict[str, dict[str, str]] = {}  # folders, and what is installed there: name of file and of package
        for package, several in installed().items():
            for each in several:
                self.owners.setdefault(each.folder, {}).update(dict.fromkeys(each.files, package))
        self.folders = {spelled: folder for folder in self.owners for spelled in _folders({folder})}
        self.tops = {name.partition("/")[0] for files in self.owners.values() for name in files}
        words = " ".join(os.environ.get(name, "") for name in PRELOADED).replace(":", " ").split()
        listed = Path("/etc/ld.so.preload")
        words += listed.read_text().split() if listed.exists() else []
        self.preloaded = {*words, *map(os.path.realpath, words)}
        self.packages: dict[str, Package] = {}  # from which something was loaded
        self.done: set[str] = set()

    def sort(self, file: str, module: str = "") -> None:
        """Put a file into its place.

        Args:
            file: its path.
            module: its name; empty of a shared object that is none.
        """
        if not module and not self.preloaded.isdisjoint((file, Path(file).name)):
            self.found.preloaded[Path(file).name] = self._sha256(file)
        place = file if self._owner(file) else self._as_installed(os.path.realpath(file))
        if (place in self.done and not module) or place.startswith(self.library) or GENERATED.search(place):
            return
        self.done.add(place)
        if owner := self._owner(place):
            self._of_package(place, *owner, module)
        elif folder := next(filter(place.startswith, self.sites), None):
            self._unlisted(place, folder, module)
        elif (folder := next(filter(place.startswith, self.stdlib), None)) and "-packages/" not in place:
            self._of_python(place, folder, module)
        else:
            self._elsewhere(Path(place), module)

    def finish(self) -> None:
        """Add what Python ran when it started, and what the packages are that something was loaded from."""
        for path in (path for folder in self.sites for path in Path(folder).glob("*.pth")):
            if any(line.startswith((b"import ", b"import\t")) for line in path.read_bytes().splitlines()):
                if owner := self._owner(place := self._as_installed(str(path))):
                    self._of_package(place, *owner)
                else:
                    self.found.startup[path.name] = self._sha256(str(path))
        for name, package in self.packages.items():
            if name != "samebits" and (files := package.listed()):  # whose edited files are inputs
                self.found.loaded.setdefault(name, summary(files))

    def _sha256(self, file: str) -> str:
        if os.path.getsize(file) > LARGE:  # noqa: PTH202
            return self.hash_large(Path(file))
        with open(file, "rb") as opened:  # noqa: PTH123 (of 3,000 files, this saves 0.05 s)
            return bytes_sha256(opened.read())

    def _owner(self, file: str) -> tuple[Package, str, str] | None:
        """Find the package that has a file, the package's name, and the file's."""
        for folder in filter(file.startswith, self.owners):
            if package := self.owners[folder].get(name := file[len(folder) :].replace(os.sep, "/")):
                return next(each for each in installed()[package] if each.folder == folder), package, name
        return None

    def _as_installed(self, file: str) -> str:
        """Find the path by which Python knows a package's file, whose folder links may lead to."""
        folder = next(filter(file.startswith, self.folders), "")
        return self.folders.get(folder, "") + file[len(folder) :]

    def _whole(self, folder: str, top: str, without: tuple[str, ...] = ("__pycache__",)) -> str:
        """Summarise all code of a package, or of a module, that lies in a folder."""
        files = [os.path.join(folder, top)]  # noqa: PTH118 (in a walk through 1,000 files, Paths take most of the time)
        for parent, folders, names in os.walk(files[0]):
            folders[:] = [name for name in folders if name not in without]
            files += [os.path.join(parent, name) for name in names]  # noqa: PTH118
        code = {os.path.relpath(file, folder).replace(os.sep, "/"): file for file in files if is_code(file)}
        return summary({name: base64_of(self._sha256(file)) for name, file in code.items() if os.path.isfile(file)})  # noqa: PTH113

    def _of_package(self, file: str, package: Package, of: str, name: str, module: str = "") -> None:
        self.packages[of] = package
        if len(installed()[of]) > 1 and not file.startswith(self.sites):
            self.found.shadows[of] = f".../{of} ({len(package.files)} files)"
        digest, _, size = package.files[name].partition(",")
        number = os.path.getsize(file)  # noqa: PTH202
        if (number <= HUGE or size != str(number)) and base64_of(sha256 := self._sha256(file)) != digest:
            self.found.patched[name] = sha256
        self._compare_bytecode(name, file, module)

    def _unlisted(self, file: str, folder: str, module: str) -> None:
        """Sort what lies where packages are installed, and is in the RECORD of none."""
        name = file[len(folder) :].replace(os.sep, "/")
        if module in STARTUP:
            self.found.startup[module] = self._sha256(file)
        elif (top := name.partition("/")[0]) in self.tops:
            self.found.patched[name] = self._sha256(file)
        elif f"site-packages/{top}" not in self.found.loaded:
            self.found.loaded[f"site-packages/{top}"] = self._whole(folder, top)
        self._compare_bytecode(name, file, module)

    def _of_python(self, file: str, folder: str, module: str) -> None:
        """Sort a file of Python's own library; tests are in the installations of some systems only."""
        name = file[len(folder) :].replace(os.sep, "/")
        top, _, below = name.removeprefix("lib-dynload/").partition("/")
        key = top.partition(".")[0]
        if key not in self.found.stdlib and not key.startswith("_sysconfigdata"):  # which says where Python lies
            whole = self._whole(folder, top, ("__pycache__", "test", "tests")).split()[2] if below else None
            self.found.stdlib[key] = (whole or self._sha256(file))[:12]
        self._compare_bytecode(f"python/{name}", file, module)

    def _elsewhere(self, path: Path, module: str) -> None:
        name = _from_root(path, module)
        label = self._label(path, name)
        folder, top = path.parents[name.count("/")], name.partition("/")[0]
        shadowed = next(filter(None, (files.get(name) for files in self.owners.values())), None) or (
            f"python's {name}" if _stem(top) in sys.stdlib_module_names else None
        )
        if not module and (str(path).startswith(self.python) or not path.is_relative_to(project().root)):
            self.found.objects[path.name.partition(".so")[0]] = self._sha256(str(path))
        elif module in STARTUP:
            self.found.startup[module] = self._sha256(str(path))
        elif shadowed and module not in ("", "__main__") and not path.is_relative_to(project().source):
            self._shadow(folder, top, shadowed)
        elif not any(path.is_relative_to(each) for each in self.found.shadowing):
            self.found.outside[path] = max(label, self.found.outside.get(path, ""), key=len)
        self._compare_bytecode(label, str(path), module, always=True)

    def _shadow(self, folder: Path, top: str, package: str) -> None:
        if folder / top in self.found.shadowing:
            return
        self.found.shadowing.append(folder / top)
        content = self._whole(str(folder), top)
        number, _, sha256, *_ = content.split()
        self.found.shadows[package] = f"{self._label(folder / top, top)} ({number} files, {sha256[:12]})"
        if package in installed():
            self.found.loaded[package] = content

    def _label(self, path: Path, name: str) -> str:
        root = project().root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else f".../{name}"

    def _compare_bytecode(self, name: str, file: str, module: str, always: bool = False) -> None:
        """Note a module whose bytecode is not that of its source; of packages, only where a re-run asks for it."""
        spec: Any = getattr(sys.modules.get(module), "__spec__", None)
        own_loader = type(getattr(spec, "loader", None)) is SourceFileLoader  # others may change the code they load
        if (always or os.environ.get(COMPILE_ALL)) and own_loader and is_foreign(file, str(spec.cached)):
            self.found.bytecode[name] = self._sha256(str(spec.cached))


def is_foreign(file: str, cached: str) -> bool:
    """Whether Python runs cached bytecode, `.pyc`, that is not what its source compiles to."""
    try:
        content, source, about = Path(cached).read_bytes(), Path(file).read_bytes(), Path(file).stat()
        flags, *noted = (int.from_bytes(content[at : at + 4], "little") for at in (4, 8, 12))
        fits = noted == [each & 0xFFFFFFFF for each in (int(about.st_mtime), about.st_size)]
        if flags:  # the hash of the source in the place of its date; it is looked at where the second bit is set
            fits = not flags & 2 or content[8:16] == source_hash(source)
        if content[:4] != MAGIC_NUMBER or not fits:
            return False  # Python compiles the source anew
        one, other = loads(content[16:]), compile(source, file, "exec", dont_inherit=True)
        return bool(one != other and _without_lines(one) != _without_lines(other))
    except (OSError, EOFError, SyntaxError, TypeError, ValueError):
        return False


def _without_lines(code: CodeType) -> CodeType:
    """Leave out the numbers of lines and columns, which one may have told Python not to write."""
    inner = (_without_lines(each) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_linetable=b"", co_consts=tuple(inner))


def _from_root(path: Path, module: str) -> str:
    """Give a module's path from the folder that Python found it in; its file's name where it was loaded by its path."""
    if module == "__main__":
        module = getattr(sys.modules[module].__spec__, "name", module)
    tail = path.parts[-1 - module.count(".") - (path.stem == "__init__") :]
    dotted = ".".join([*tail[:-1], _stem(tail[-1])])
    return "/".join(tail) if dotted.removesuffix(".__init__") == module else path.name


def _stem(name: str) -> str:
    return name.partition(".")[0]


def base64_of(sha256: str) -> str:
    """Write a hash as RECORD does."""
    return base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")


def _folders(names: Iterable[str]) -> tuple[str, ...]:
    """Give folders with a separator at the end, as they are called and as they are."""
    return tuple({os.path.join(each, "") for name in names for each in (name, os.path.realpath(name))})  # noqa: PTH118
