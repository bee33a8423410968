"""The project's tree as the run had it, without what nobody else may see, and so that it works without Git."""

from __future__ import annotations

import fnmatch
import re
import shutil
from pathlib import Path

from ..config import PACKAGE, ROOT
from ..errors import UserError
from ..repro.hashing import present_sha256
from ..repro.inputs import code_sha256, lock_sha256
from ..repro.record import Record
from ..repro.redact import HIDDEN, WORDS, redact
from ..repro.source import RESULTS
from ..verdicts import here

# Private, or of this computer alone, whether Git knows of it or not
PRIVATE = (".env", ".env.*", ".netrc", ".pypirc", "*.pem", "*.key", "id_rsa*", "id_ed25519*", "config.local")
CACHES = (*here.NO_CODE, ".git", ".venv", ".cache", "*.pyc")
DVC = Path(".dvc/config")
REPLACED = (*RESULTS, "data/raw", "data/processed", "dist", ".dvc/tmp", ".dvc/cache")
PASSWORD = re.compile(r"(?<=://)[\w.%+-]*:[^/\s@'\"{}()\[\]$<>|\\]+(?=@)")  # of a user; no variable
SECRET = re.compile(rf"(?im)^[ \t]*\w*(?:{WORDS})\w*[ \t]*=.*\n?")  # a setting of DVC's


def write_tree(record: Record, run: Path, target: Path) -> list[str]:
    """Write the recorded state of the code to a folder, without results and data.

    Args:
        record: of the run.
        run: its directory.
        target: the folder; made if missing.

    Returns:
        What is not as it was, each as a sentence for the user.

    Raises:
        UserError: the recorded state cannot be found, or holds a password where it must not be taken out.
    """
    known = here.export(record, run, target, instead="bundle a run of the code here: `make train`, then `make bundle`")
    if not known:
        changed = here.settings_differences(record)[0]
        if changed:
            raise UserError(
                f"the settings in configs/ are no longer those of {run} ({changed[0][0]}), and Git does not know those:"
                " restore them, or bundle a run of the settings here: `make train`, then `make bundle`."
            )
    for name in REPLACED:
        _remove(target / name, keep=".gitignore")
    told = [*_add_outside(record, target), *_leave_out(target)]
    _require_recorded(record, target)
    told += _without_logins(target)
    config = target / DVC
    if config.exists():
        config.write_text(without_git(config.read_text(encoding="utf-8")), encoding="utf-8")
    return told


def without_git(config: str) -> str:
    """Change DVC's configuration so that it works without Git, and names no login."""
    lines = re.sub(r"(?m)^[ \t]*no_scm[ \t]*=.*\n?", "", SECRET.sub("", redact(config)))
    section = re.search(r"(?m)^\[core\][ \t]*$", lines)
    if section is None:
        return f"{lines.rstrip()}\n[core]\n    no_scm = true\n".lstrip()
    return f"{lines[: section.end()]}\n    no_scm = true{lines[section.end() :]}"


def is_left_out(name: str) -> bool:
    """Whether a file of this path belongs to this computer alone."""
    return any(fnmatch.fnmatch(part, pattern) for part in Path(name).parts for pattern in (*PRIVATE, *CACHES))


def _remove(path: Path, keep: str) -> None:
    if path.is_dir() and not path.is_symlink():
        for each in path.iterdir():
            if each.name != keep:
                _remove(each, "")
        if not any(path.iterdir()):
            path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _leave_out(target: Path) -> list[str]:
    """Remove what is private, and links out of the tree; one to a file inside becomes that file."""
    told = []
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if path.is_symlink() and path.is_file() and path.resolve().is_relative_to(target.resolve()):
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        elif path.is_symlink() or (path.exists() and is_left_out(path.name)):
            told.append(f"{name} was left out ({'a link' if path.is_symlink() else 'private, or a cache'})")
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return told


def _add_outside(record: Record, target: Path) -> list[str]:
    """Add code that the run loaded from outside of the package, and that Git ignores."""
    told = []
    for name, sha256 in record["inputs"].get("outside", {}).items():
        if name.startswith(".../"):
            told.append(f"{name} was loaded from outside of the project, so it is not in the bundle")
        elif present_sha256(target, [name]).get(name) != sha256:
            if present_sha256(ROOT, [name]).get(name) != sha256:
                raise UserError(
                    f"{name}, which the run loaded from outside of the package, is not what it was: restore it."
                )
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    return told


def _require_recorded(record: Record, target: Path) -> None:
    """Refuse a tree that is not what the record says, for nobody would get the same with it."""
    for kind, found in (("code", code_sha256(target / PACKAGE.relative_to(ROOT))), ("lock", lock_sha256(target))):
        recorded = record["inputs"][kind]
        for name in sorted(recorded | found):
            if recorded.get(name) != found.get(name):
                raise UserError(
                    f"the state of the code that Git keeps is not the recorded one ({kind} {name}): bundle a run of the"
                    " code here: `make train`, then `make bundle`."
                )


def _without_logins(target: Path) -> list[str]:
    """Replace passwords in addresses; where the bytes are inputs of the run, refuse."""
    told = []
    package = target / PACKAGE.relative_to(ROOT)
    for path in sorted(path for path in target.rglob("*") if path.is_file()):
        name = path.relative_to(target)
        is_input = path.parent == target / "requirements" or (path.is_relative_to(package) and path.suffix == ".py")
        if path.suffix == ".py" and not is_input:
            continue  # tests of what is done with passwords
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hidden = redact(text) if name.parts[0] == "configs" else PASSWORD.sub(HIDDEN, text)
        if hidden == text:
            continue
        if is_input:
            raise UserError(
                f"{name} has an address with a password in it, and cannot be changed, because it is part of what the"
                " run was made of: take the password out, then `make train` and `make bundle`."
            )
        path.write_bytes(hidden.encode())
        told.append(f"in {name}, the login in an address was replaced by {HIDDEN}")
    return told
