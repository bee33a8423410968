"""Zips of strangers that are no bundles, or more than that: each is refused in a sentence and leaves nothing behind."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .attack import Attack
from .project import UserError, module

unpack = module("samebits.bundle.unpack")
TOP = "project-run-12345678"
METADATA = f"{TOP}/ro-crate-metadata.json"
KIND = "an evil bundle"
Change = Callable[[zipfile.ZipFile], None]


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("x")
    made.filename = name  # as it is: the class itself would cut it off at a NUL
    made.create_system, made.external_attr = 3, mode << 16
    return made


def bundle(path: Path, *changes: Change) -> Path:
    """Write a small bundle, and what a stranger puts into it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry(METADATA), "{}")
        archive.writestr(entry(f"{TOP}/src/train.py"), "x = 1\n")
        archive.writestr(entry(f"{TOP}/run.sh", stat.S_IFREG | 0o4777), "#!/bin/sh\n")
        for change in changes:
            change(archive)
    return path


def holds(name: str, content: str = "x", mode: int = stat.S_IFREG | 0o644) -> Change:
    return lambda archive: archive.writestr(entry(name, mode), content)


def refuses(path: Path, into: Path, said: str, most: float) -> None:
    try:
        unpack.unpack(path, into, most)
    except UserError as error:
        assert said in str(error) and str(error).isprintable(), error
    else:
        raise AssertionError("it was unpacked")


def is_refused(path: Path, folder: Path, said: str, most: float = 1) -> None:
    outside = folder / "outside"
    outside.mkdir()
    refuses(path, outside / "into", said, most)
    assert not any(each.is_file() or each.is_symlink() or each.name == TOP for each in outside.rglob("*"))
    assert sorted(each.name for each in folder.iterdir() if each != path) == ["outside"]


def has(said: str, name: str, *changes: Change) -> Attack:
    """Make an attack by what is in the zip."""
    return Attack(KIND, name, lambda folder: is_refused(bundle(folder / "x.zip", *changes), folder, said))


def is_changed(change: Callable[[bytes], bytes], said: str, folder: Path) -> None:
    path = bundle(folder / "x.zip")
    path.write_bytes(change(path.read_bytes()))
    is_refused(path, folder, said)


def is_damaged(damage: Callable[[bytes], bytes], folder: Path) -> None:
    path = bundle(folder / "x.zip", holds(f"{TOP}/data.bin", "0123456789" * 1000))
    path.write_bytes(damage(path.read_bytes()))
    is_refused(path, folder, " no bundle")


def is_no_file(make: Callable[[Path], None], folder: Path) -> None:
    make(folder / "x.zip")
    is_refused(folder / "x.zip", folder, "x.zip")


def other_size(content: bytes) -> bytes:
    """Say of the last file in the list of contents that it is small, and have it become large."""
    at = content.rindex(b"PK\x01\x02")
    return content[: at + 24] + struct.pack("<I", 5) + content[at + 28 :]


def overlaps(content: bytes) -> bytes:
    """Have the last file begin where the first does."""
    at = content.rindex(b"PK\x01\x02")
    return content[: at + 42] + struct.pack("<I", 0) + content[at + 46 :]


def encrypted(content: bytes) -> bytes:
    at = content.rindex(b"PK\x01\x02")
    return content[: at + 8] + b"\x01" + content[at + 9 :]


def large(folder: Path) -> None:
    path = bundle(
        folder / "x.zip",
        *(
            lambda archive, name=f"{TOP}/{number}": archive.writestr(entry(name), bytes(2**20), zipfile.ZIP_DEFLATED)
            for number in range(20)
        ),
    )
    assert path.stat().st_size < 100_000
    is_refused(path, folder, "samebits unpack --most <GB> allows it", most=0.01)


def there_already(folder: Path) -> None:
    (folder / TOP).mkdir()
    (folder / TOP / "mine").write_text("x")
    try:
        unpack.unpack(bundle(folder / "x.zip"), folder)
    except UserError as error:
        assert "is there already" in str(error)
    else:
        raise AssertionError("it was unpacked")
    assert [each.name for each in (folder / TOP).iterdir()] == ["mine"]


def is_fine(folder: Path) -> None:
    """The control: what is as a bundle is unpacked, without the rights that a stranger gave."""
    made, number, size = unpack.unpack(bundle(folder / "x.zip", holds(f"{TOP}/naïve 数字.txt")), folder / "new")
    files = {each.relative_to(made).as_posix(): each.stat().st_mode & 0o7777 for each in made.rglob("*.*")}
    assert (number, size, made.name) == (4, 19, TOP)
    assert files == {"ro-crate-metadata.json": 0o644, "src/train.py": 0o644, "run.sh": 0o755, "naïve 数字.txt": 0o644}
    assert [each.name for each in (folder / "new").iterdir()] == [TOP]


def in_parts(folder: Path, **second: Change) -> list[Path]:
    """Write a bundle in two parts, the second with what is given."""
    parts = [bundle(folder / "x.1-of-2.zip"), folder / "x.2-of-2.zip"]
    with zipfile.ZipFile(parts[1], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(entry(f"{TOP}/offline/wheels/a.whl"), "wheel")
        for change in second.values():
            change(archive)
    return parts


def part_is(spoil: Callable[[Path], object], said: str, folder: Path, given: int = 0) -> None:
    """Spoil the second part; neither part is unpacked then."""
    (folder / "parts").mkdir()
    parts = in_parts(folder / "parts")
    spoil(parts[1])
    is_refused_in(folder, parts[given], said)


def part_has(said: str, folder: Path, change: Change, most: float = 1) -> None:
    (folder / "parts").mkdir()
    is_refused_in(folder, in_parts(folder / "parts", change=change)[0], said, most)


def is_refused_in(folder: Path, path: Path, said: str, most: float = 1) -> None:
    refuses(path, folder / "into", said, most)
    assert not (folder / "into").exists() or not list((folder / "into").iterdir())


def parts_are_fine(folder: Path) -> None:
    """The control: any of the parts leads to all of them."""
    parts = in_parts(folder)
    for number, part in enumerate(parts):
        made, count, size = unpack.unpack(part, folder / str(number))
        assert (count, size, (made / "offline/wheels/a.whl").read_text()) == (4, 23, "wheel")
        assert (made / "src/train.py").exists()


ELSEWHERE = (
    *("../evil", "../../evil", "a/../../evil", "/tmp/evil", "./evil", "a//evil", "..\\evil", "C:\\evil"),
    *(
        "C:evil",
        "\\\\host\\share\\evil",
        "a/..",
        "evil:stream",
        "con",
        "NUL.txt",
        "a/com1.json",
        "evil.",
        "evil ",
        "...",
    ),
    *("a?b", "a*b", "a|b", "<a>", '"', "a" * 300),
)
FROM_ROOT = ("/tmp/evil", "//host/evil", "../evil", "C:/evil", "~\\evil")
STEERING = ("\x1b[2J", "a\nb", "a\u202eb", "a\u200bb", "\x7f", "a\tb", "a\u2028b", "a\x9bb")
OF_GIT = (".git/config", "a/.git/hooks/post-checkout", ".GIT/config", ".git", "git~1/config", ".gIt/HEAD")
TWICE = (("a", "a"), ("a", "A"), ("é", "e\u0301"), ("straße", "STRASSE"), ("ﬁle", "file"), ("dir/a", "DIR/A"))
KINDS = {
    "link": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "device": stat.S_IFCHR,
    "socket": stat.S_IFSOCK,
    "disk": stat.S_IFBLK,
}
LINKED = ("../../../etc/passwd", "src", "/etc", "models/main/record.json")
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "no zip": lambda content: b"not a zip" * 100,
    "other bytes": lambda content: content.replace(b"x = 1", b"y = 2"),
    "a size that is not its own": other_size,
    "files that overlap": overlaps,
    "garbage in the middle": lambda content: content[:200] + bytes(50) + content[250:],
}
FILES: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a fifo": os.mkfifo,
    "nothing": lambda path: None,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
CASES: list[Attack] = [
    *(has("leads elsewhere", f"name {name[:40]!r}", holds(f"{TOP}/{name}")) for name in ELSEWHERE),
    *(has("is not to be trusted", f"name from the root {name!r}", holds(name)) for name in FROM_ROOT),
    *(has("control characters", f"name {name!r}", holds(f"{TOP}/{name}")) for name in STEERING),
    *(has("repository of Git", f"name {name}", holds(f"{TOP}/{name}")) for name in OF_GIT),
    *(has("twice", f"{one!r} and {two!r}", holds(f"{TOP}/{one}"), holds(f"{TOP}/{two}")) for one, two in TWICE),
    *(has("a link or a device", f"a {kind}", holds(f"{TOP}/x", "x", mode | 0o777)) for kind, mode in KINDS.items()),
    *(has("a link or a device", f"a link to {to}", holds(f"{TOP}/x", to, stat.S_IFLNK | 0o777)) for to in LINKED),
    has("single folder", "a second folder", holds("other/x")),
    has("cannot be unpacked", "a file that is a folder", holds(f"{TOP}/x"), holds(f"{TOP}/x/y")),
    Attack(KIND, "encrypted", partial(is_changed, encrypted, "is encrypted")),
    *(Attack(KIND, name, partial(is_damaged, damage)) for name, damage in DAMAGES.items()),
    *(Attack(KIND, f"{name} in its place", partial(is_no_file, make)) for name, make in FILES.items()),
    Attack(KIND, "a bomb", large),
    Attack(KIND, "over what is there", there_already),
    Attack(KIND, "none at all: a bundle", is_fine),
    Attack(KIND, "a part that is missing", partial(part_is, Path.unlink, "x.2-of-2.zip, another part of")),
    Attack(KIND, "a part alone", partial(part_is, lambda path: path.with_name("x.1-of-2.zip").unlink(), "", given=1)),
    Attack(KIND, "a part that is cut off", partial(part_is, lambda path: os.truncate(path, 40), "no bundle")),
    Attack(KIND, "a part that is a folder", partial(part_is, lambda path: (path.unlink(), path.mkdir()), "x.1-of-2")),
    *(
        Attack(KIND, f"in a second part {name}", partial(part_has, said, change=holds(file, "x" * 2000)))
        for name, file, said in (
            ("a file of the first", f"{TOP}/src/train.py", "is in it twice"),
            ("a file of the first in capitals", f"{TOP}/SRC/TRAIN.PY", "is in it twice"),
            ("another folder", "elsewhere/x", "single folder"),
            ("a name that leads elsewhere", f"{TOP}/../x", "leads elsewhere"),
        )
    ),
    Attack(KIND, "a bomb in parts", partial(part_has, "--most", change=holds(f"{TOP}/x", "x" * 20000), most=1e-5)),
    Attack(KIND, "none at all: a bundle in parts", parts_are_fine),
]
