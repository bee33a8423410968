"""What a bundle needs where no network is, in its folder `offline/`: locked packages, Python, the container's image.

Its `wheels/` holds the file of each package that the run's environment had, with the hash that the lock has, and
requirements/install.sh takes packages from there and from nowhere else. uv says which files these are, where, and how
large; pip fetches them.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from packaging.utils import canonicalize_name, canonicalize_version

from ..engine.errors import UserError
from ..engine.files import file_sha256
from ..engine.locks import read_lock
from ..engine.project import project
from ..engine.record import Record

FOLDER = "offline"
CHOICES = "choices"  # accelerator and extras, which install.sh then takes by itself, and the locks that are here
TOOLS = "dev"  # the lock of what reports, notebooks and tests need, packed though a training may have done without
ON_DEMAND = (TOOLS, "serve")  # which no choice has to name: the commands that need them ask for them
SUMS = "SHA256SUMS"  # of packages and Python, which it compares first
IMAGE = "image.tar"
SERVICE = "alone"  # of compose.yaml: what runs a stranger's bundle
AGAIN = "as it says above: mend that, then `make bundle` again; nothing was written"
README = """\
> No network is needed: `make reproduce` takes the packages from `offline/`. They are those for Python {python} on
> {system}{more}.
"""
IN_README = """\
> `docker load --input offline/image.tar` brings the container's image, `{name}` ({id}, made from `{base}`).
"""


@dataclass(frozen=True)
class Wanted:
    """What goes into the folder `offline/`."""

    wheels: bool = False
    python: bool = False  # also uv's build of the project's Python
    image: bool = False  # also what `docker save` makes of the container's image

    def __bool__(self) -> bool:
        return self.wheels or self.python or self.image  # of Python alone, `collect` says what it goes with


def collect(record: Record, tree: Path, wanted: Wanted) -> Iterator[str]:
    """Bring what is wanted into `offline/` of the project's tree, and say so in its README; yield remarks.

    Raises:
        UserError: this is another kind of computer than the record's, or something cannot be had.
    """
    if wanted.python and not wanted.wheels:
        raise UserError("a Python without the packages reproduces nothing: INTERPRETER=yes goes with WHEELS=yes.")
    if project().adopted:
        raise UserError("this project has no locks and no compose.yaml: make the bundle without --wheels and --image.")
    if wanted.wheels and not (tree / "requirements/offline.sh").exists():
        raise UserError(
            f"the code of {record['run']} has no requirements/offline.sh, without which `make` there would not look"
            " into offline/: bundle a run of the code here, after make update if that has none either."
        )
    environment = record["environment"]
    recorded = (environment["python"].rpartition(".")[0], environment["system"].get("machine"))
    here = (platform.python_version().rpartition(".")[0], platform.machine())
    if recorded != here or not environment["system"]["os"].startswith(platform.system()):
        raise UserError(
            f"{record['run']} was trained with Python {recorded[0]} on {environment['system']['os']} {recorded[1]}, and"
            f" this is Python {here[0]} on {platform.system()} {here[1]}, which takes other packages: bundle it there."
        )
    locks = installed_locks(tree / "requirements", environment["packages"])
    accelerator = next(name.removeprefix("torch-") for name in locks if name.startswith("torch-"))
    extras = " ".join(name for name in locks if name not in ("main", "uv", "build", f"torch-{accelerator}", *ON_DEMAND))
    locks += [TOOLS] if TOOLS not in locks and (tree / f"requirements/{TOOLS}.txt").exists() else []
    folder, said, more = tree / FOLDER, "", ""
    (folder / "wheels").mkdir(parents=True)
    if wanted.wheels:
        if (project().root / FOLDER / "wheels").is_dir():  # a bundle made of a bundle
            (tree / "here").symlink_to(project().root / FOLDER / "wheels")
        _fetch(_files(tree, locks, environment["python"]), folder / "wheels", tree / "requirements")
        if wanted.python:
            version = (tree / ".python-version").read_text().strip()
            archive = _fetch_python(version, folder / "python")
            more = f", and Python {version} itself"
            if environment["python"] not in archive:
                yield (
                    f"the run's Python {environment['python']} is this system's and cannot be packed: in the bundle is"
                    f" {archive}, for where no Python {version} is"
                )
        names = sorted(path for path in folder.rglob("*") if path.is_file())
        sums = (f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in names)
        (folder / SUMS).write_text("".join(sums))
        (folder / CHOICES).write_text(f"accelerator={accelerator}\nextras={extras}\nlocks={' '.join(locks)}\n")
        said = README.format(python=recorded[0], system=f"{platform.system()} {recorded[1]}", more=more)
    if wanted.image:
        image = _save_image(tree, folder / IMAGE, accelerator, extras)
        said += IN_README.format(**image)
        if "@sha256:" not in image["base"]:
            yield f"the image was made from {image['base']}, which is not pinned by digest (make lock does it)"
    warning, _, rest = (tree / "README.md").read_text(encoding="utf-8").partition("\n\n")
    (tree / "README.md").write_text(f"{warning}\n>\n{said}\n{rest}", encoding="utf-8")


def installed_locks(folder: Path, packages: dict[str, str]) -> list[str]:
    """Name the locks in a folder that these packages (name and version) came from; uv's and build's always."""
    found: list[str] = []
    versions: dict[str, str] = {canonicalize_name(each): canonicalize_version(packages[each]) for each in packages}
    for lock in sorted(folder.glob("*.txt")):
        listed = read_lock(lock.read_text(encoding="utf-8"))
        pins = {name: each.version for name, each in listed.items() if not each.wheel}
        there = all(versions.get(name) == version for name, version in pins.items())
        other = lock.stem.startswith("torch-") and any(name.startswith("torch-") for name in found)
        if lock.stem in ("main", "uv", "build") or (pins and there and not other):
            found.append(lock.stem)
    if not any(name.startswith("torch-") for name in found):
        raise UserError(
            f"PyTorch {packages.get('torch')} of the run is in no lock of requirements/, so its wheel is not known:"
            " bundle the run without WHEELS=yes."
        )
    return found


def _files(tree: Path, locks: Sequence[str], python: str) -> dict[str, dict[str, Any]]:
    """Have uv list the files of the locked packages that this computer takes: address, size, hashes, by address.

    They are those for every patch release of this Python, since a bundle may meet another one.
    """
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    order = {tag: number for number, tag in enumerate(sys_tags())}

    def rank(wheel: dict[str, Any]) -> int:  # as installers choose
        return min(order.get(tag, len(order)) for tag in parse_wheel_filename(_name(wheel))[3])

    minor, found = python.rpartition(".")[0], {}
    for version in (f"{minor}.0", python, f"{minor}.99"):
        words = [_uv(), "pip", "compile", "--quiet", "--no-deps", "--format", "pylock.toml", "--no-build-isolation"]
        words += ["--python", sys.executable, "--python-version", version, "--output-file", "pylock.offline.toml"]
        words += [f"requirements/{name}.txt" for name in locks]
        source = ". requirements/torch-source.sh; " if "torch-cpu" in locks else ""
        where = {}
        if (tree / "here").exists():
            words, where = [*words, "--no-index"], {"UV_FIND_LINKS": "here"}
        _run(
            ["sh", "-c", f'{source}exec "$@"', "sh", *words],
            f"the packages could not be found, {AGAIN}",
            tree,
            version=minor,
            **where,
        )
        listed = tomllib.loads((tree / "pylock.offline.toml").read_text())["packages"]
        for package in listed:
            wheels = package.get("wheels") or [package["sdist"]]  # antlr4 has no wheel
            chosen = min(wheels, key=rank) if len(wheels) > 1 else wheels[0]
            found[chosen["url"]] = chosen | {"name": package["name"]}
    return found


def _name(file: dict[str, Any]) -> str:
    return unquote(str(file["url"]).rpartition("/")[2])


def _fetch(files: dict[str, dict[str, Any]], folder: Path, requirements: Path) -> None:
    """Fetch the files, each with its hash, which has to be one of the locks'; say their size first."""
    locked = "".join(path.read_text(encoding="utf-8") for path in requirements.glob("*.txt"))
    for file in files.values():
        if file["hashes"]["sha256"] not in locked:
            raise UserError(f"{_name(file)} has a hash that is in no lock, so it is not the package of the run.")
        if file["url"].startswith("file:"):  # whose size uv does not list
            file["size"] = Path(unquote(urlparse(file["url"]).path)).stat().st_size
    unknown = sum("size" not in file for file in files.values())
    size = sum(file.get("size", 0) for file in files.values())
    more = f", and {unknown} whose size their index does not tell" if unknown else ""
    print(f"Fetching {len(files)} packages, {size / 1e6:,.0f} MB{more}.", flush=True)
    require_room(folder, 2 * size)  # once here, once in the zip
    wanted, left = folder.parent / "wanted.txt", list(files.values())
    while left:  # of a package that another patch release of Python has in another version, one a time
        names = {file["name"]: file for file in left}
        lines = (f"{name} @ {file['url']} --hash=sha256:{file['hashes']['sha256']}\n" for name, file in names.items())
        wanted.write_text("".join(lines))
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        words += ["--no-build-isolation", "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
        _run(words, f"the packages could not be fetched, {AGAIN}", folder)
        left = [file for file in left if names[file["name"]] is not file]
    wanted.unlink()


def require_room(folder: Path, size: float) -> None:
    """Refuse to begin what the disk has no room for."""
    if size > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"about {size / 1e9:,.1f} GB are needed, and {os.path.relpath(folder)} has {free / 1e9:,.1f}: make room."
        )


def _fetch_python(version: str, folder: Path) -> str:
    """Have uv fetch its build of this Python, whose sha256 it knows, and keep the archive; return its name."""
    apart = folder.parent / "installed"
    words = [_uv(), "python", "install", "--no-bin", "--install-dir", str(apart), version]
    failed = (
        f"uv's Python {version} could not be fetched, as it says above, and this system's own cannot be packed: name a"
        " mirror in UV_PYTHON_INSTALL_MIRROR, or keep the image instead, which has a Python (IMAGE=yes)"
    )
    _run(words, failed, folder.parent, UV_PYTHON_CACHE_DIR=str(folder))
    shutil.rmtree(apart)
    return next(path.name for path in folder.iterdir())


def _save_image(tree: Path, path: Path, accelerator: str, extras: str) -> dict[str, str]:
    """Build the image that runs a bundle, of the tree's own locks, and save it; return its name, id and base."""
    if not shutil.which("docker"):
        raise UserError("IMAGE=yes needs Docker, which is not here: install it, or leave that out.")
    compose = ["docker", "compose", "--file", str(tree / "compose.yaml"), "--profile", SERVICE]
    chosen = {"ACCELERATOR": accelerator, "EXTRAS": extras}
    _run([*compose, "build", SERVICE], f"the image could not be built, {AGAIN}", tree, **chosen)
    name = _asked([*compose, "config", "--format", "json"], **chosen)["services"][SERVICE]["image"]
    about = _asked(["docker", "image", "inspect", name])[0]
    print(f"Saving the image {name}, {about['Size'] / 1e6:,.0f} MB.", flush=True)
    require_room(path.parent, 2 * about["Size"])
    _run(["docker", "save", "--output", str(path), name], f"the image could not be saved, {AGAIN}", tree)
    labels = about["Config"].get("Labels") or {}
    return {
        "name": name,
        "id": about["Id"],
        "base": labels.get("org.opencontainers.image.base.name", "no base it names"),
    }


def _uv() -> str:
    path = Path(sys.executable).with_name("uv")
    if not path.exists():
        raise UserError(f"{path} is missing, by which packages are found: rm -r .venv, then make setup INSTALLER=uv.")
    return str(path)


def _run(words: list[str], failed: str, folder: Path, **variables: str) -> None:
    """Run a program in a folder; a UserError where it fails."""
    if subprocess.run(words, cwd=folder, env=os.environ | variables).returncode:
        raise UserError(f"{failed}.")


def _asked(words: list[str], **variables: str) -> Any:
    """Return what a program answers, as JSON."""
    done = subprocess.run(words, env=os.environ | variables, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise UserError(f"Docker does not say what it has made, {AGAIN}.")
    return json.loads(done.stdout)
