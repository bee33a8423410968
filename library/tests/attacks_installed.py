"""Attacks on what is installed, and their innocent twins: a tiny environment of three wheels, changed in every way.

Each change is named by `samebits doctor`, as a problem or for attention; what installers and Python do themselves, not.
"""

from __future__ import annotations

import os
import py_compile
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path

from .attack import Attack
from .fake_installation import (
    ATTENTION,
    OK,
    PROBLEM,
    WHEELS,
    Fake,
    build,
    digest,
    listed,
    packages,
)

KIND = "what is installed"


def expect(found: list[packages.Check], mark: str, *words: str) -> None:
    """Require a line of that mark and these words, which says what mends it, and a status that follows."""
    said = [f"{each.mark} {each.what}: {each.found}" for each in found]
    (worst,) = {PROBLEM} & {each.mark for each in found} or {ATTENTION} & {each.mark for each in found} or {OK}
    assert worst == mark, (worst, said)
    fitting = [
        each for each in found if each.mark == mark and all(word in f"{each.what}: {each.found}" for word in words)
    ]
    assert mark == OK or (fitting and all(each.mend for each in fitting)), said


def changed(change: Callable[[Fake], object], mark: str, words: tuple[str, ...], folder: Path) -> None:
    fake = Fake(folder)
    options = change(fake)
    expect(fake.checks(**(options if isinstance(options, dict) else {})), mark, *words)


# --- the changes; some return how it is to be examined


def write(name: str, text: str = "changed = True\n") -> Callable[[Fake], object]:
    def change(fake: Fake) -> None:
        path = fake.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return change


def remove(name: str) -> Callable[[Fake], object]:
    def change(fake: Fake) -> None:
        for path in fake.site.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Fake], object]:
    def change(fake: Fake) -> None:
        (fake.site / name).unlink()
        make(fake.site / name)

    return change


def edit_list(fake: Fake, old: bytes = b"2 * x", new: bytes = b"3 * x") -> None:
    """Change a file, and the list of its package so that it fits."""
    path, record = fake.site / "alpha/core.py", fake.record()
    before, after = path.read_bytes(), path.read_bytes().replace(old, new)
    path.write_bytes(after)
    record.write_text(record.read_text().replace(digest(before), digest(after)))


def unhash(fake: Fake) -> None:
    """Change a file, and take its hash out of the list."""
    write("alpha/core.py")(fake)
    rows = fake.record().read_text().splitlines()
    fake.record().write_text("\n".join("alpha/core.py,," if row.startswith("alpha/core.py") else row for row in rows))


def relock(name: str, old: str, new: str) -> Callable[[Fake], object]:
    def change(fake: Fake) -> None:
        path = fake.root / f"requirements/{name}.txt"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def other_wheel(name: str, locked: bool, noted: bool = False) -> Callable[[Fake], object]:
    """Put another wheel of the same version in the place of one that the project holds."""

    def change(fake: Fake) -> None:
        (version,) = (version for each, version in WHEELS if each == name)
        build(name, version, {f"{name}/__init__.py": "", f"{name}/engine.py": "CONTRACT = 3\n"}, fake.vendor)
        if locked:
            fake.lock()
        if noted:
            fake.note()

    return change


def by_hand(fake: Fake) -> None:
    """Install a wheel of the same version that is not the locked one, as pip does if one asks for it."""
    remove("alpha*")(fake)
    fake.install(build("alpha", "1.0", {"alpha/__init__.py": "import os\n"}, fake.root), "alpha")


def another(name: str, version: str) -> Callable[[Fake], object]:
    return lambda fake: fake.install(build(name, version, {f"{name}/__init__.py": ""}, fake.root), name)


def upgrade(fake: Fake) -> None:
    remove("alpha*")(fake)
    another("alpha", "1.1")(fake)


def plant(bytecode: bool) -> Callable[[Fake], object]:
    """Compile other code, and put it where Python takes it for that of the source, of the same size and date."""

    def change(fake: Fake) -> dict[str, bool]:
        path = fake.site / "alpha/core.py"
        about, text = path.stat(), path.read_text()
        path.write_text(text.replace("2 * x", "3 * x") if bytecode else text)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        py_compile.compile(str(path), doraise=True)
        path.write_text(text)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        return {"bytecode": True}

    return change


def sourceless(fake: Fake) -> None:
    py_compile.compile(str(fake.site / "alpha/core.py"), cfile=str(fake.site / "alpha/extra.pyc"))


def move(edited: str = "", added: str = "") -> Callable[[Fake], object]:
    """Put a package elsewhere, and a link in its place."""

    def change(fake: Fake) -> None:
        elsewhere = fake.root.parent / "elsewhere"
        shutil.move(fake.site / "alpha", elsewhere)
        (fake.site / "alpha").symlink_to(elsewhere)
        for name in filter(None, (edited, added)):
            (elsewhere / name).write_text("changed = True\n")

    return change


def linked(make: Callable[[Path, Path], object]) -> Callable[[Fake], object]:
    """Have all files of the packages as links into a cache, as uv makes them if one asks for it."""

    def change(fake: Fake) -> None:
        cache = fake.root.parent / "cache"
        for path in [path for path in fake.site.rglob("*") if path.is_file()]:
            kept = cache / path.relative_to(fake.site)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, kept)
            make(path, kept)

    return change


def edited_cache(fake: Fake) -> None:
    linked(Path.hardlink_to)(fake)
    (fake.site / "alpha/core.py").write_text("changed = True\n")
    (check,) = [each for each in fake.checks() if each.mark == PROBLEM]
    assert "cache clean alpha && make clean setup" in check.mend, check


def shadow(name: str) -> Callable[[Fake], object]:
    def change(fake: Fake) -> dict[str, str]:
        path = fake.root.parent / "first" / name
        path.parent.mkdir(parents=True)
        path.write_text("")
        return {"path": str(fake.root.parent / "first")}

    return change


def conda(fake: Fake) -> dict[str, bool]:
    """Make it an adopted project's, without locks and notes, of packages as conda leaves them."""
    shutil.rmtree(fake.root / "requirements")
    (fake.prefix / ".installed").unlink()
    (fake.prefix / ".choices").unlink()
    (fake.record().parent / "INSTALLER").write_text("conda")
    rows = [row for row in fake.record().read_text().splitlines() if "INSTALLER" not in row]
    cached = cache_from_source("alpha/core.py")
    fake.record().write_text("\n".join([*rows, listed(cached, b"written by conda")]))
    py_compile.compile(str(fake.site / "alpha/core.py"))
    return {"adopted": True}


def by_pip(fake: Fake) -> None:
    """Install the wheels by pip itself."""
    shutil.rmtree(fake.site)
    (fake.prefix / "bin" / "alpha").unlink()
    venv.create(fake.prefix, symlinks=True)
    words = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check", *map(str, fake.wheels.values())]
    python = fake.prefix / "bin/python"
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", *words], check=True)
    fake.note()


def compiled(fake: Fake) -> dict[str, bool]:
    for path in fake.site.rglob("*.py"):
        py_compile.compile(str(path))
    return {"bytecode": True}


def several(*changes: Callable[[Fake], object]) -> Callable[[Fake], object]:
    def change(fake: Fake) -> None:
        for each in changes:
            each(fake)

    return change


TRIED: dict[str, tuple[Callable[[Fake], object], str, tuple[str, ...]]] = {
    "a changed module": (write("alpha/core.py"), PROBLEM, ("alpha: alpha/core.py is changed",)),
    "a changed library": (write("alpha/kernels.so", "\x7fELF2"), PROBLEM, ("alpha/kernels.so",)),
    "a changed table": (write("alpha/table.csv", "1,3\n"), PROBLEM, ("alpha/table.csv",)),
    "a changed file with a quoted name": (write('alpha/a "b", c.txt'), PROBLEM, ('a "b", c.txt',)),
    "a removed module": (remove("alpha/core.py"), PROBLEM, ("alpha/core.py is missing",)),
    "a removed package": (remove("alpha"), PROBLEM, ("alpha/__init__.py is missing",)),
    "a folder for a file": (replaced("alpha/core.py", Path.mkdir), PROBLEM, ("alpha/core.py is missing",)),
    "a link to nothing": (replaced("beta.py", lambda path: path.symlink_to("nowhere")), PROBLEM, ("beta.py",)),
    "a link to another file": (
        replaced("alpha/core.py", lambda path: path.symlink_to("__init__.py")),
        PROBLEM,
        ("alpha/core.py is changed",),
    ),
    "a file that may not be read": (replaced("beta.py", os.mkfifo), PROBLEM, ("beta.py is missing",)),
    "a changed .pth file": (write("beta_start.pth", "import os\n"), PROBLEM, ("beta_start.pth is changed",)),
    "a changed script": (
        lambda fake: (fake.prefix / "bin/alpha").write_text("exit\n"),
        ATTENTION,
        ("bin/alpha is changed",),
    ),
    "changed metadata": (write("alpha-1.0.dist-info/WHEEL", ""), ATTENTION, ("WHEEL is changed",)),
    "an added module": (write("alpha/extra.py"), PROBLEM, ("added files: alpha/extra.py",)),
    "an added module, deep": (write("alpha/a/b/c.py"), PROBLEM, ("alpha/a/b/c.py",)),
    "an added library": (write("alpha/core.abi3.so"), PROBLEM, ("alpha/core.abi3.so",)),
    "an added module of nobody": (write("gamma.py"), ATTENTION, ("added files: gamma.py",)),
    "an added package of nobody": (write("gamma/__init__.py"), ATTENTION, ("gamma",)),
    "an added .pth file": (write("a.pth", "import os\n"), PROBLEM, ("run at each start: a.pth",)),
    "sitecustomize": (write("sitecustomize.py"), PROBLEM, ("run at each start: sitecustomize.py",)),
    "usercustomize, a package": (write("usercustomize/__init__.py"), PROBLEM, ("run at each start",)),
    "bytecode without a source": (sourceless, PROBLEM, ("alpha/extra.pyc",)),
    "planted bytecode": (plant(True), PROBLEM, ("bytecode: alpha/core.py",)),
    "an edited RECORD": (edit_list, PROBLEM, ("wheels: alpha", "RECORD")),
    "a RECORD without a hash": (unhash, PROBLEM, ("wheels: alpha", "RECORD")),
    "no RECORD": (lambda fake: fake.record().unlink(), PROBLEM, ("wheels: alpha",)),
    "an empty RECORD": (lambda fake: fake.record().write_text(""), PROBLEM, ("wheels: alpha",)),
    "another wheel, by hand": (by_hand, PROBLEM, ("wheels: alpha",)),
    "another version": (upgrade, PROBLEM, ("other versions: alpha 1.1 (locked: 1",)),
    "two versions": (another("alpha", "1.1"), PROBLEM, ("there twice: alpha",)),
    "no version": (remove("alpha*"), PROBLEM, ("missing: alpha 1",)),
    "a package too many": (another("gamma", "3.0"), ATTENTION, ("in no lock: gamma 3",)),
    "a lock with another hash": (
        lambda fake: relock("torch-cpu", (fake.root / "requirements/torch-cpu.txt").read_text()[-65:-1], "0" * 64)(
            fake
        ),
        PROBLEM,
        ("wheels: alpha: other hashes are locked today",),
    ),
    "a lock with one hash less": (relock("main", f"--hash=sha256:{'1' * 64}", ""), PROBLEM, ("wheels: beta-two",)),
    "a lock with another version": (relock("torch-cpu", "alpha==1.0", "alpha==1.0.1"), PROBLEM, ("other versions",)),
    "a lock with one package more": (relock("main", "# a comment", "gamma==3"), PROBLEM, ("missing: gamma 3",)),
    "the library's wheel exchanged": (other_wheel("samebits", False), PROBLEM, ("is not the one that is locked",)),
    "the library's wheel and its lock exchanged": (
        other_wheel("samebits", True),
        PROBLEM,
        ("what is installed is not",),
    ),
    "wheel, lock and notes exchanged": (other_wheel("samebits", True, True), PROBLEM, ("what is installed is not",)),
    "no wheel of the library": (
        lambda fake: fake.wheels["samebits"].unlink(),
        PROBLEM,
        ("vendor/samebits-9.9-py3-none-any.whl is missing",),
    ),
    "no notes": (lambda fake: (fake.prefix / ".installed").unlink(), ATTENTION, ("wheels: not known",)),
    "notes of an older template": (
        lambda fake: (fake.prefix / ".installed").write_text("1 2 /project\n"),
        ATTENTION,
        ("wheels: not known",),
    ),
    "a wrong Python": (lambda fake: (fake.root / ".python-version").write_text("3.1\n"), PROBLEM, ("version: ", "3.1")),
    "a linked package, edited": (move(edited="core.py"), PROBLEM, ("alpha/core.py is changed",)),
    "a linked package, with more": (move(added="extra.py"), PROBLEM, ("alpha/extra.py",)),
    "an edited file of uv's cache": (edited_cache, PROBLEM, ("alpha/core.py",)),
    "a module in the way": (shadow("beta.py"), PROBLEM, ("imported from elsewhere: beta-two from",)),
    "a package in the way": (shadow("alpha/__init__.py"), PROBLEM, ("imported from elsewhere: alpha from",)),
    "twin: untouched": (lambda fake: None, OK, ()),
    "twin: installed by pip": (by_pip, OK, ()),
    "twin: as conda leaves it": (conda, OK, ()),
    "twin: bytecode that Python wrote": (compiled, OK, ()),
    "twin: bytecode compiled anew": (plant(False), OK, ()),
    "twin: uv's hard links": (linked(Path.hardlink_to), OK, ()),
    "twin: uv's symbolic links": (linked(Path.symlink_to), OK, ()),
    "twin: a linked package": (move(), OK, ()),
    "twin: a lock with one more hash": (relock("torch-cpu", "--hash", f"--hash=sha256:{'2' * 64} --hash"), OK, ()),
    "twin: a lock with a comment": (relock("main", "# a comment", "# another\n\n#"), OK, ()),
    "twin: a package of another system": (relock("main", "elsewhere==3", "elsewhere==4"), OK, ()),
    "twin: what packages write themselves": (write("alpha/cache/fonts.json"), OK, ()),
    "twin: what virtualenv brings": (several(write("_virtualenv.py"), write("_virtualenv.pth")), OK, ()),
    "twin: somebody else's folder in the way": (shadow("data/raw.py"), OK, ()),
}
CASES = [Attack(KIND, name, partial(changed, *tried)) for name, tried in TRIED.items()]
