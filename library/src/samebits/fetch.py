"""Fetch the raw data: `samebits fetch [key=value ...]`, the first stage of `make data`.

What is fetched stands in configs/data/: each file has an address and a sha256, and is kept only if that is its own. A
folder arrives as one zip file.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlparse

from omegaconf import DictConfig, OmegaConf

from .engine.command_line import run_command
from .engine.config import check
from .engine.errors import UserError
from .engine.files import JUNK, file_sha256, files_in
from .engine.inputs import data_folder
from .engine.project import project

UNFINISHED = ".fetching-"  # the folder of a download that may have been killed
FETCHED = Path(".cache/fetched")  # the sha256 of each file that was fetched here, in the project's folder


def fetch(cfg: DictConfig) -> list[Path]:
    """Bring every file of `cfg.data.files` into `cfg.paths.raw`, read-only, its sha256 checked; return the paths.

    A file that is there already with the right sha256 is kept as it is; a fetched one that is not named goes.

    Raises:
        UserError: a file cannot be had, is not the one that the config pins, or was not fetched and would be lost.
    """
    check(cfg)
    require_names()
    raw = Path(cfg.paths.raw)
    raw.mkdir(parents=True, exist_ok=True)
    for path in sorted(raw.iterdir()):  # what was fetched for another configuration can be fetched again
        if path.name.startswith(UNFINISHED):
            shutil.rmtree(path)
        elif path.name not in [entry.name for entry in cfg.data.files] and not any(map(path.match, JUNK)):
            if path.is_dir() or not _was_fetched(path):
                raise UserError(f"{path} is not named in configs/data/: move it to data/external/, then `make data`.")
            path.unlink()
            print(f"{path.name}: removed, since the chosen config in configs/data/ does not name it")
    paths = [raw / entry.name for entry in cfg.data.files]
    for path, entry in zip(paths, cfg.data.files, strict=True):
        if not path.exists() or file_sha256(path) != entry.sha256:
            _fetch_file(str(entry.uri), str(entry.sha256 or ""), path)
        path.chmod(0o444)
        print(f"{path.name}: {path.stat().st_size:,} bytes, sha256 as pinned")
    return paths


def _was_fetched(path: Path) -> bool:
    """Whether a file can be fetched again: it is read-only, which DVC undoes at times, or its sha256 is known."""
    notes = [project().root / FETCHED, *(project().configs / "data").glob("*.yaml")]
    known = "".join(note.read_text(encoding="utf-8") for note in notes if note.exists())
    return not path.stat().st_mode & stat.S_IWUSR or file_sha256(path) in known


def _fetch_file(uri: str, sha256: str, path: Path) -> None:
    """Bring a file to `path`, if it has this sha256."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder:
        new = Path(folder) / path.name
        try:
            _download(uri, new)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and urlparse(uri).scheme == "file":
                where = "it is not here; copy it there, or `make pull` where it was shared"
                raise UserError(f"{uri} cannot be fetched: {where}.") from error
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"{uri} cannot be fetched ({reason}): check the address in configs/data/ and the network,"
                " then run `make data` again."
            ) from error
        if (found := file_sha256(new)) != sha256:
            if not sha256:
                raise UserError(f'{uri} is not pinned: in configs/data/, write sha256: "{found}", then `make data`.')
            raise UserError(
                f"{uri} has the sha256 {found}, but configs/data/ pins {sha256}, so it was not kept:"
                " if the publisher replaced the file and you trust the new one, pin its sha256 and run `make data`."
            )
        new.replace(path)
    note = project().root / FETCHED
    note.parent.mkdir(exist_ok=True)
    with note.open("a", encoding="utf-8") as file:
        file.write(f"{sha256}\n")


def _download(uri: str, target: Path) -> None:
    """Copy what `uri` names to `target`; with a progress bar where it comes over the network."""
    parts = urlparse(uri)
    if parts.scheme == "pkg":
        with files(parts.netloc).joinpath(parts.path.lstrip("/")).open("rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    elif parts.scheme == "file":
        place = parts.path if parts.netloc == "localhost" else f"{parts.netloc}{parts.path}"
        given = project().root / unquote(place)
        (_pack if given.is_dir() else shutil.copyfile)(given, target)
    elif parts.scheme in ("https", "doi"):
        import pooch

        pooch.get_logger().setLevel("WARNING")
        pooch.core.choose_downloader(uri, progressbar=True)(uri, str(target), None)
    else:
        raise ValueError(f"{parts.scheme or 'no scheme'} is not one of https://, doi:, file:// and pkg://")


def _pack(folder: Path, target: Path) -> None:
    """Put a folder's files, but for hidden ones, into a zip whose bytes follow from their names and contents alone."""
    names = (path.relative_to(folder) for path in files_in(folder))
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(name.as_posix() for name in names if not any(part[0] == "." for part in name.parts)):
            entry = zipfile.ZipInfo(name)  # of 1980, not compressed: images are already
            entry.create_system, entry.file_size = 3, (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as copy:
                shutil.copyfileobj(source, copy)


def require_names() -> None:
    """Refuse a data set of another name than its file's: each lies in folders of its name, beside the others."""
    for path in sorted((project().configs / "data").glob("*.yaml")):
        name = re.search(r"^name:\s*['\"]?(.*?)['\"]?\s*(#.*)?$", path.read_text(encoding="utf-8"), re.M)
        if name and name[1] != path.stem:
            raise UserError(
                f"{path} has the name {name[1]!r}, by which its folders are called: write name: {path.stem}."
            )


def make_available(cfg: DictConfig) -> bool:
    """Fetch and prepare the data of `cfg`, unless something is prepared: whether that is right is for others to say.

    Returns:
        Whether they were prepared now.
    """
    data = data_folder(cfg)
    prepared_here = not project().adopted and data == project().root / cfg.paths.processed
    if not prepared_here or (data / "dataset.json").exists():
        return False
    fetch(cfg)
    with tempfile.TemporaryDirectory() as folder:  # the project's own code prepares, by the command that is its own
        settings = Path(folder) / "config.yaml"
        settings.write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")
        command = f"{project().name}.data.prepare"
        paths = os.pathsep.join(filter(None, [str(project().source), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": paths}  # also where the project is not installed
        done = subprocess.run([sys.executable, "-m", command, str(settings)], cwd=project().root, env=environment)
    if done.returncode:
        raise UserError(f"the data could not be prepared by python -m {command}; the lines above say why.")
    return True


def main(arguments: list[str]) -> None:
    """Fetch what the settings name."""
    sys.argv[1:] = arguments
    run_command(fetch)
