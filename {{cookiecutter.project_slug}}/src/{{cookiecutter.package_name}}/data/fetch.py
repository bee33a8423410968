"""Fetch the raw data: `python -m <package>.data.fetch`, the first stage of `make data`."""

from __future__ import annotations

import shutil
import stat
import tempfile
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlparse

from omegaconf import DictConfig

from ..cli import run_command
from ..config import check
from ..errors import UserError
from ..repro.hashing import file_sha256

UNFINISHED = ".fetching-"  # the folder of a download that may have been killed


def fetch(cfg: DictConfig) -> list[Path]:
    """Bring every file of `cfg.data.files` into `cfg.paths.raw`, read-only, its sha256 checked.

    A file that is there already with the right sha256 is kept as it is.

    Returns:
        The paths of the files.

    Raises:
        UserError: an address cannot be read, or a file is not the one whose sha256 the config pins. Nothing of it is
            left behind.
    """
    check(cfg)
    raw = Path(cfg.paths.raw)
    raw.mkdir(parents=True, exist_ok=True)
    remove_leftovers(raw, {str(entry.name) for entry in cfg.data.files})
    paths = []
    for entry in cfg.data.files:
        path = raw / entry.name
        if not path.exists() or file_sha256(path) != entry.sha256:
            _fetch_one(str(entry.uri), str(entry.sha256), path)
        path.chmod(0o444)
        paths.append(path)
        print(f"{path.name}: {path.stat().st_size:,} bytes, sha256 as pinned")
    return paths


def remove_leftovers(raw: Path, wanted: set[str]) -> None:
    """Remove files that were fetched for another configuration: read-only ones, which can be fetched again.

    Raises:
        UserError: there is a file that was not fetched, and would be lost.
    """
    for path in sorted(raw.iterdir()):
        if path.name in wanted:
            continue
        if path.name.startswith(UNFINISHED):
            shutil.rmtree(path)
            continue
        if path.is_dir() or path.stat().st_mode & stat.S_IWUSR:
            raise UserError(f"{path} is not named in configs/data/: move it to data/external/, then run `make data`.")
        path.unlink()
        print(f"{path.name}: removed, configs/data/ names it no longer")


def _fetch_one(uri: str, sha256: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder:
        new = Path(folder) / path.name
        try:
            _download(uri, new)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UserError(
                f"{uri} cannot be fetched ({reason}): check the address in configs/data/ and the network,"
                " then run `make data` again."
            ) from error
        found = file_sha256(new)
        if found != sha256:
            raise UserError(
                f"{uri} has the sha256 {found}, but configs/data/ pins {sha256}, so it was not kept:"
                " if the publisher replaced the file and you trust the new one, pin its sha256 and run `make data`."
            )
        new.replace(path)


def _download(uri: str, target: Path) -> None:
    """Copy what `uri` names to `target`; with a progress bar where it comes over the network."""
    parts = urlparse(uri)
    if parts.scheme == "pkg":
        with files(parts.netloc).joinpath(parts.path.lstrip("/")).open("rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    elif parts.scheme == "file":
        shutil.copyfile(unquote(parts.path), target)
    elif parts.scheme in ("https", "doi"):
        import pooch

        pooch.get_logger().setLevel("WARNING")
        pooch.core.choose_downloader(uri, progressbar=True)(uri, str(target), None)
    else:
        raise ValueError(f"{parts.scheme or 'no scheme'} is not one of https://, doi:, file:// and pkg://")


if __name__ == "__main__":
    run_command(fetch)
