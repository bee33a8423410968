"""Put one run and all that it was made of into one zip: `samebits bundle [RUN]`, or `make bundle`.

In it are the run, its data, the reports, and the project as the run had it. What nobody else may see is left out, and
what is left works without Git. The same files give the same bytes, whole or not at all.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

from omegaconf import DictConfig

from ..engine import record as records
from ..engine.access_log import GONE
from ..engine.errors import UserError, require_packages
from ..engine.files import only_process, present_sha256
from ..engine.git_snapshot import PATCH, results
from ..engine.inputs import code_sha256, data_folder, lock_sha256, named_paths
from ..engine.project import project
from ..engine.record import HISTORY, PREDICTIONS, PUBLISHED, RECORD, WEIGHTS, Record
from ..engine.run_loader import main_run, newest_run, read_config
from ..engine.secrets import HIDDEN, WORDS, hide_logins, is_private, redact, why_private
from ..engine.trace_reader import TRACE
from ..report.documents import read_project
from ..verify import provenance_diff, verdict_files
from ..verify.data_stages import LOCK, dvc_md5
from ..verify.provenance_diff import require_no_secret, require_unedited
from . import offline
from .archive import parts_of, split, write_zip
from .crate import METADATA, Contents, describe
from .offline import Wanted

CACHES = (*provenance_diff.NO_CODE, ".git", ".venv", ".cache", "*.pyc")
REPLACED = ("data/raw", "data/processed", "dist", offline.FOLDER, ".dvc/tmp", ".dvc/cache")
SECRET = re.compile(rf"(?im)^[ \t]*\w*(?:{WORDS})\w*[ \t]*=.*\n?")  # a setting of DVC's
CORE = r"(?m)^\[core\][ \t]*(\n|$)"  # a heading of DVC's configuration
NOTHING = Wanted()
STRANGERS = """\
> **{0} here runs the code of whoever made this bundle.** If you do not know them, let it do so in a container without a
> network, which sees this folder alone{1}.

"""
BY_DOCKER = ": `docker compose run --rm alone`, once you have read compose.yaml and Dockerfile, which are theirs, too"
INSTEAD = "bundle a run of the code here: `make train`, then `make bundle`"


def main(arguments: argparse.Namespace) -> None:
    """Write a bundle, and print what it is for."""
    run: Path = arguments.run or (main_run() if os.path.lexists(main_run() / RECORD) else newest_run())
    if run.is_file():
        raise UserError(f"{run} is a file: name the folder of a run; ls models/ lists them.")
    wanted = Wanted(arguments.wheels, arguments.interpreter, arguments.image)
    path, number, remarks = bundle(run, not arguments.without_data, wanted=wanted, most=arguments.part)
    for sentence in remarks:
        print(f"note: {sentence}.")
    parts = parts_of(path)
    for part in parts:
        print(f"{os.path.relpath(part)}: {part.stat().st_size:,} bytes" + (f", {number} files" if part == path else ""))
    if len(parts) > 1:
        print("Each part is a zip for the same folder; `samebits unpack` finds the others beside the one it is given.")
    print("Next: upload it, to Zenodo for example; ro-crate-metadata.json in it says what each file is.")
    if project().adopted:
        print(f"A stranger unzips it, installs the packages that {RECORD} lists, and types `samebits reproduce` there.")
        return
    print("A stranger unzips it and types `make reproduce` there, with Python and make; neither Git nor your storage")
    print("is needed." if not wanted.wheels else "is needed, and no network.")
    if arguments.without_data:
        print("The data are not in it: `make reproduce` fetches them first, and checks their sha256.")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Put a run with its code, settings, locks, data, weights and verdicts into dist/<run>.zip."
    )
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the main run)")
    text = "name large or unfree data by address and sha256 alone"
    described.add_argument("--without-data", action="store_true", help=text)
    text = "also the locked packages, so that no network is needed (only on a computer like the run's)"
    described.add_argument("--wheels", action="store_true", help=text)
    described.add_argument("--interpreter", action="store_true", help="also uv's Python, for where there is none")
    text = "also the container's image, built of the run's locks, as docker save writes it"
    described.add_argument("--image", action="store_true", help=text)
    text = "write zips of at most this size, all for the same folder (default: one of any size)"
    described.add_argument("--part", type=float, metavar="GB", help=text)
    return described


def bundle(
    run: Path,
    with_data: bool = True,
    folder: Path | None = None,
    root: Path | None = None,
    wanted: Wanted = NOTHING,
    most: float | None = None,
) -> tuple[Path, int, list[str]]:
    """Write the bundle of a run (its directory, or the published copy) into a folder, by default dist/ of the project.

    Args:
        run: the run's folder.
        with_data: False names the data by address alone.
        folder: where the zip is to be.
        root: of the project.
        wanted: what of `offline/` goes in as well.
        most: GB of a zip; more are written where one would be larger.

    Returns:
        The (first) zip, the number of files, and what is not in it as it is here, in sentences.
    """
    require_packages("bundle", "rocrate")
    root = root or project().root
    with _staging(root if wanted else None) as staging:
        tree, description = staging / "tree", staging / METADATA
        collected = collect(run, tree, with_data, root)
        if wanted:
            collected.remarks += offline.collect(collected.record, tree, wanted)
            added = _files(tree / offline.FOLDER)
            collected.files |= {path.relative_to(tree).as_posix(): path for path in added}
        metadata = read_project(tree)
        description.write_bytes(describe(collected, metadata, with_data))
        files = collected.files | {METADATA: description}
        top = f"{metadata.slug}-{collected.record['run']}" + ("" if with_data else "-without-data")
        path = (folder or root / "dist") / f"{top}.zip"
        parts = split(files, most)
        paths = [
            path if len(parts) == 1 else path.with_name(f"{top}.{n}-of-{len(parts)}.zip")
            for n in range(1, len(parts) + 1)
        ]
        size = sum(source.stat().st_size for source in files.values())
        if wanted:
            print(f"Writing {size / 1e6:,.0f} MB into {os.path.relpath(path.parent)}.", flush=True)
            offline.require_room(root, size)
        try:
            for part, content in zip(paths, parts, strict=True):
                write_zip(part, top, content, collected.record["observed"]["ended"])
        except BaseException:
            for part in paths[:-1]:  # of which the last one is missing
                part.unlink(missing_ok=True)
            raise
    return paths[0], len(files), collected.remarks


@contextmanager
def _staging(root: Path | None) -> Iterator[Path]:
    """Lend a folder for what is to be packed: of the system, or, for what is large, of the project, one at a time."""
    if root is None:
        with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
            yield Path(folder)
        return
    place = root / ".cache" / "bundle"
    with only_process(place.with_suffix(".lock"), place):
        _delete(place)  # of one that was killed
        place.mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place)


def collect(run: Path, staging: Path, with_data: bool, root: Path) -> Contents:
    """Check a run, and collect what belongs to it; files that are not those here are written to `staging`."""
    record, shown = records.read_finished(run), os.path.relpath(run)
    require_unedited(run)
    require_no_secret(run)
    if not (run / WEIGHTS).exists():
        raise UserError(f"{shown}/{WEIGHTS} is missing: fetch it (make pull), or train it again (make train).")
    origin = record["inputs"].get("origin", {}).get("files", [])
    private = [file["uri"] for file in origin if urlparse(file["uri"]).scheme == "file"]
    if not with_data and project().adopted:
        raise UserError("the data of this project have no address to be fetched from: bundle them (no --without-data).")
    if private and not with_data:
        raise UserError(
            f"{shown} was made of {private[0]}, which nobody else can fetch: bundle it with its data (without DATA=no),"
            " or publish them first and write their address into configs/data/."
        )
    cfg = read_config(run, root)
    data = _data(shown, record, cfg, root) if with_data else {}
    remarks = write_project(record, run, staging)
    command = ("`samebits reproduce`", "") if project().adopted else ("`make reproduce`", BY_DOCKER)
    readme = staging / "README.md"
    readme.write_bytes(STRANGERS.format(*command).encode() + (readme.read_bytes() if readme.is_file() else b""))
    place = f"{project().runs_in}/{run.resolve().name}"
    known = {HISTORY: record["observed"].get("history"), PATCH: record["source"].get("patch")}
    known |= {PREDICTIONS: record["outputs"].get("predictions"), TRACE: record["outputs"]["trace"]}
    # one of which the record has no hash is not the run's: it may be a link to anything
    parts = [run / name for name in PUBLISHED if (run / name).exists() and known.get(name, True)]
    parts += verdict_files.files_of(run, record)
    remarks += [f"{sentence}; it is not in the bundle" for sentence in verdict_files.read_verdicts(run, record)[1]]
    files = {path.relative_to(staging).as_posix(): path for path in _files(staging)}
    files |= {f"{place}/{path.relative_to(run).as_posix()}": path for path in parts}
    written = [] if project().adopted else _files(root / "reports")
    reports = {path.relative_to(root).as_posix(): path for path in written if not path.is_symlink()}
    # the weights of the reference, which Git has not either, stay here
    listed = {name: path for name, path in reports.items() if not is_left_out(name) and path.name != WEIGHTS}
    withheld = {name: why_private(name, path.read_bytes()) for name, path in listed.items()}
    withheld |= {name: "private by its name" for name in data if is_private(name) and not name.startswith("data/")}
    remarks += [f"{name} was left out ({reason})" for name, reason in withheld.items() if reason]
    listed |= {name: root / name for name in data if (root / name).exists()}
    files |= {name: path for name, path in listed.items() if not withheld.get(name)}
    files.pop(LOCK, None)  # by which the data in the bundle would be taken for what other code has made
    if (root / LOCK).exists() and all(dvc_md5(root / name) == dvc_md5(staging / name) for name in ("src", "dvc.yaml")):
        files[LOCK] = root / LOCK
    for large in record["source"].get("left_out", {}):
        remarks.append(f"{large} was too large to be code when the run was trained, so it is not in the bundle")
    raw = os.path.relpath(cfg.paths.raw, root) if not project().adopted else ""
    return Contents(root, record, place, files, data, raw, remarks)


def _files(folder: Path) -> Iterator[Path]:
    """List the files in a folder and below, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _data(name: str, record: Record, cfg: DictConfig, root: Path) -> dict[str, str]:
    """List the data that the run read, and the raw files where they are here: path in the project and sha256."""
    paths = cfg[project().paths]
    processed, raw = data_folder(cfg), Path(paths.get("raw") or paths.processed)
    if not (processed.is_relative_to(root) and raw.is_relative_to(root)):
        raise UserError(
            f"{name} read its data from outside of the project ({processed}): bundle it without them, with DATA=no, or"
            " train on data in data/."
        )
    if changed := provenance_diff.data_differences(record, cfg) + provenance_diff.named_file_differences(record, cfg):
        file, recorded, here = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"the data here are not those of {name} ({file}: recorded {recorded[:12]}, here {here[:12]}{more}): choose"
            " the run's data in configs/train.yaml and run `make data`, or bundle the run without data, with DATA=no."
        )
    origin = record["inputs"].get("origin", {}).get("files", [])
    found = {processed / file: sha256 for file, sha256 in record["inputs"]["data"].items()}
    named = zip(named_paths(record["inputs"]), record["inputs"].get("files", {}).values(), strict=True)
    found |= {path: sha256 for path, sha256 in named if path.is_relative_to(root)}
    found |= {raw / file["name"]: file["sha256"] for file in origin if (raw / file["name"]).exists()}
    return {path.relative_to(root).as_posix(): sha256 for path, sha256 in sorted(found.items())}


def is_left_out(name: str) -> bool:
    """Whether a file of this path belongs to this computer alone, whether Git knows of it or not."""
    return is_private(name) or any(fnmatch.fnmatch(part, pattern) for part in Path(name).parts for pattern in CACHES)


def write_project(record: Record, run: Path, target: Path) -> list[str]:
    """Write the project as the run had it to the folder `target`, without results and data.

    Returns:
        What is not as it was, in sentences for the user.
    """
    known = provenance_diff.export_code(record, run, target, instead=INSTEAD)
    changed = [] if known else provenance_diff.settings_differences(record)[0]
    if changed:
        raise UserError(
            f"the settings in configs/ are no longer those of {run} ({changed[0][0]}), and Git does not know those:"
            " restore them, or bundle a run of the settings here: `make train`, then `make bundle`."
        )
    for path in (target / name for name in (*results(), *(REPLACED if not project().adopted else ()))):
        for entry in path.iterdir() if path.is_dir() and not path.is_symlink() else [path]:
            if entry.name != ".gitignore":
                _delete(entry)
    remarks = [*_add_outside(record, target), *_edited_library(record, target), *_leave_out(target)]
    _require_recorded(record, target)
    config = target / ".dvc/config"
    if config.exists():
        config.write_text(without_git(config.read_text(encoding="utf-8")), encoding="utf-8")
    return remarks + _without_secrets(target)


def without_git(config: str) -> str:
    """Change DVC's configuration so that it works without Git, and names no login."""
    lines = re.sub(r"(?m)^[ \t]*no_scm[ \t]*=.*\n?", "", SECRET.sub("", redact(config)))
    if not re.search(CORE, lines):
        lines = f"{lines.rstrip()}\n[core]\n".lstrip()
    return re.sub(CORE, "[core]\n    no_scm = true\n", lines, count=1)


def _delete(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _leave_out(target: Path) -> list[str]:
    """Remove what is private, and links out of the tree; one to a file inside becomes that file."""
    remarks = []
    for path in sorted(target.rglob("*")):
        if path.is_symlink() and path.is_file() and path.resolve().is_relative_to(target.resolve()):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        elif path.is_symlink() or (path.exists() and is_left_out(path.relative_to(target).as_posix())):
            name, reason = path.relative_to(target), "a link" if path.is_symlink() else "private, or a cache"
            remarks.append(f"{name.as_posix()} was left out ({reason})")
            _delete(path)
    return remarks


def _add_outside(record: Record, target: Path) -> list[str]:
    """Add code and files that the run loaded although they are none of its inputs, and that Git ignores."""
    remarks, here = [], project().root
    for name, sha256 in record["inputs"].get("outside", {}).items():
        if name.startswith((".../", "~/", "/")) or sha256 == GONE:
            remarks.append(f"{name} was loaded from outside of the project, so it is not in the bundle")
        elif present_sha256(target, [name]).get(name) != sha256:
            if present_sha256(here, [name]).get(name) != sha256:
                raise UserError(
                    f"{name}, which the run loaded from outside of the package, is not what it was: restore it."
                )
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here / name, target / name)
    return remarks


def _edited_library(record: Record, target: Path) -> list[str]:
    """Name edited files of the library that are not in the tree, as they are where the project holds its source."""
    edited = record["inputs"].get("library", {})
    inside = present_sha256(target / project().source.relative_to(project().root) / "samebits", edited)
    missing = [name for name, sha256 in edited.items() if inside.get(name) != sha256]
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    text = f"{more} was not as released when the run was trained, and is not in the bundle"
    return [f"samebits/{missing[0]}{text}"] if missing else []


def _require_recorded(record: Record, target: Path) -> None:
    """Refuse a tree that is not what the record says, for nobody would get the same with it."""
    inputs = record["inputs"]
    code = code_sha256(inputs["config"], replace(project(), root=target))
    changed = provenance_diff.named("code", provenance_diff.differing_files(inputs["code"], code))
    changed += provenance_diff.named("lock", provenance_diff.differing_files(inputs["lock"], lock_sha256(target)))
    if changed:
        name = changed[0][0]
        raise UserError(f"the state of the code that Git keeps is not the recorded one ({name}): {INSTEAD}.")


def _without_secrets(target: Path) -> list[str]:
    """Replace passwords in addresses, remove files with other ones; where the bytes are inputs of the run, refuse."""
    remarks, package = [], target / project().package.relative_to(project().root)
    for path in _files(target):
        name = path.relative_to(target).as_posix()
        text = path.read_bytes().decode(errors="surrogateescape")
        hidden = text if "\0" in text else hide_logins(text, all_of_them=name.startswith("configs/"))
        reason = why_private(name, hidden.encode(errors="surrogateescape"))
        if hidden == text and not reason:
            continue
        if path.parent == target / "requirements" or (path.is_relative_to(package) and path.suffix == ".py"):
            raise UserError(
                f"{name} has {'a password or a key' if reason else 'an address with a password'} in it, and cannot be"
                " changed, because it is part of what the run was made of: take that out, then `make train` and"
                " `make bundle`."
            )
        if reason:
            path.unlink()
            remarks.append(f"{name} was left out ({reason})")
        else:
            path.write_bytes(hidden.encode(errors="surrogateescape"))
            remarks.append(f"in {name}, the login in an address was replaced by {HIDDEN}")
    return remarks
