"""Builds the wheel of library/ and puts it, with its hash, into the template: `make wheel`.

The wheel has the same bytes wherever and whenever it is built: its time stamp is fixed, its files' modes are one, and
what is in it is stored and not compressed, since zlib's versions differ in what they make of the same bytes (and Git
compresses better by itself: of a newer wheel it keeps what has changed).
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent
LIBRARY = TEMPLATE / "library"
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
EPOCH = "1580601600"  # 2020-02-02, hatchling's own choice where nothing is said


def build(library: Path, folder: Path) -> Path:
    """Build the wheel with the locked hatchling, without a network, and return it.

    Args:
        library: the folder with its pyproject.toml.
        folder: where the wheel goes.

    Raises:
        SystemExit: it cannot be built; hatchling's own words are printed.
    """
    with tempfile.TemporaryDirectory() as name:
        words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", name]
        done = subprocess.run(
            words,
            cwd=library,
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            sys.exit(f"{done.stdout}error: the wheel of {library} could not be built.")
        (built,) = Path(name).glob("*.whl")
        wheel = folder / built.name
        with zipfile.ZipFile(built) as compressed, zipfile.ZipFile(wheel, "w") as stored:
            for entry in compressed.infolist():
                content = compressed.read(entry)
                entry.compress_type = zipfile.ZIP_STORED
                entry.external_attr = 0o100644 << 16  # a checkout on some file systems has all files executable
                stored.writestr(entry, content)
    return wheel


def lock(wheel: Path) -> str:
    """Return the text of requirements/samebits.txt for this wheel."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return (
        "# the library, which the project holds as a wheel: `make update` brings a newer one\n"
        f"./vendor/{wheel.name} --hash=sha256:{digest}\n"
    )


def main() -> None:
    """Build the wheel, let it replace the one in the template, and lock it."""
    vendor = PROJECT / "vendor"
    vendor.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=vendor) as name:
        built = build(LIBRARY, Path(name))
        for old in vendor.glob("samebits-*.whl"):
            old.unlink()
        wheel = built.rename(vendor / built.name)
    (PROJECT / "requirements/samebits.txt").write_text(lock(wheel), encoding="utf-8", newline="\n")
    pyproject = PROJECT / "pyproject.toml"
    version = wheel.name.split("-")[1]
    text = re.sub(r"vendor/samebits-.*?-py3", f"vendor/samebits-{version}-py3", pyproject.read_text(encoding="utf-8"))
    pyproject.write_text(text, encoding="utf-8", newline="\n")
    print(f"vendor/{wheel.name}: {wheel.stat().st_size // 1000} kB, locked by its hash in requirements/samebits.txt")


if __name__ == "__main__":
    main()
