"""The files of verdicts beside a run: sealed with the record that they are about, and signed by whoever has a key.

A seal tells of an edit by hand; whoever knows this code can make one. A signature is that of an SSH key, the one that
signs one's commits in Git: https://git-scm.com/docs/git-config#Documentation/git-config.txt-gpgformat.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from enum import Enum
from pathlib import Path
from typing import Any

from fastjsonschema import JsonSchemaValueException

from ..engine.errors import UserError
from ..engine.files import json_sha256, write_atomically
from ..engine.record import Record, validator
from ..engine.untrusted import leads_out, load_json

VERDICTS = "verdicts"  # folder beside the run
SIGNATURE = ".sig"  # what ssh-keygen puts behind the name of the file that it signs
NAMESPACE = "samebits"  # of the signatures: one that was made for a commit or a mail is none on a verdict
UNSIGNED = "unsigned"
OF_REPOSITORY = ("local", "worktree")  # scopes of settings of Git that a folder which was unzipped may bring
SCHEMA = Path(__file__).with_name("verdict.schema.json")


class Kind(Enum):
    """What can be found."""

    IDENTICAL = "every traced step, every tensor and every metric is the same, bit for bit"
    ENVIRONMENT = "two trainings here agree with each other, and not with the record"
    NONDETERMINISTIC = "two trainings here, from the same inputs, disagree with each other"
    DIFFERENT_INPUTS = "code, settings, data or seed are not those of the record"
    TAMPERED = "the parts of the record contradict each other: something was edited after the run"

    @property
    def title(self) -> str:
        """The name as it is printed."""
        return self.name.replace("_", " ")


def seal(verdict: dict[str, Any]) -> dict[str, Any]:
    """Add the sha256 of a verdict's content, in which `record` is that of the record."""
    content = {key: value for key, value in verdict.items() if key != "sha256"}
    return content | {"sha256": json_sha256(content)}


def write_verdict(run: Path, name: str, text: str) -> Path:
    """Write the text of a sealed verdict beside the run, under a name of its own."""
    folder = run / VERDICTS
    folder.mkdir(exist_ok=True)
    path, number = folder / f"{name}.json", 2
    while path.exists():
        path, number = folder / f"{name}-{number}.json", number + 1
    write_atomically(path, f"{text}\n".encode())
    return path


def read_verdicts(run: Path, record: Record) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the verdicts on a record, the oldest first.

    Returns:
        The verdicts, each with its `file` and what is known of its `signature`; and of those that are passed over since
        they are not as they were written, a sentence each. One on another record that stood in its place is no fault.
    """
    found, wrong = [], []
    folder = run / VERDICTS
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json") if os.path.lexists(folder) else []
    except OSError as error:
        return [], [f"{VERDICTS} is no folder that can be read ({error.strerror}), so no verdict is known"]
    for path in paths:
        name = f"{VERDICTS}/{path.name}"
        try:
            verdict = None if leads_out(path) else load_json(path)
        except (OSError, ValueError):
            verdict = None
        if not isinstance(verdict, dict):
            wrong.append(f"{name} cannot be read, so it is passed over")
        elif isinstance(verdict.get("record"), str) and verdict["record"] != record["sha256"]:
            continue
        elif "sha256" not in verdict:
            wrong.append(f"{name} is not sealed (written by hand, or before samebits 1.1.0), so it is passed over")
        elif seal(verdict) != verdict or not _is_verdict(verdict, record):
            wrong.append(f"{name} was edited after it was written: its seal (sha256) does not fit its content")
        elif (signature := signature_of(path)) is None:
            wrong.append(f"{name} has a signature that is not of this content, so it is passed over")
        else:
            found.append(verdict | {"file": name, "signature": signature})
    # two that began in the same second stand in the order in which they ended
    return sorted(found, key=lambda each: (each["when"], each.get("seconds", 0), each["file"])), wrong


def _is_verdict(verdict: dict[str, Any], record: Record) -> bool:
    try:
        validator(SCHEMA)(verdict)
    except JsonSchemaValueException:
        return False
    return bool(verdict["record"] == record["sha256"] and verdict["run"] == record["run"])


def verdicts_on(run: Path, record: Record) -> list[dict[str, Any]]:
    """Read the verdicts on a record that are as they were written, the oldest first."""
    return read_verdicts(run, record)[0]


def files_of(run: Path, record: Record) -> list[Path]:
    """List the files of these verdicts, and of their signatures."""
    paths = [run / verdict["file"] for verdict in verdicts_on(run, record)]
    return [each for path in paths for each in (path, _signature_path(path)) if each.exists()]


def tampered(run: Path, record: Record) -> list[str]:
    """Say in a sentence that a run was found TAMPERED; not where a later re-run of the same record, by its own code and
    settings, found it IDENTICAL: its files were restored."""
    for verdict in reversed(verdicts_on(run, record)):
        if verdict["verdict"] == Kind.IDENTICAL.title and not verdict["inputs"]:
            return []
        if verdict["verdict"] == Kind.TAMPERED.title:
            cause = f": {verdict['causes'][0]}" if verdict.get("causes") else ""
            return [f"{verdict['file']} says that it is TAMPERED{cause}"]
    return []


# --- signatures


def _signature_path(path: Path) -> Path:
    return path.with_name(path.name + SIGNATURE)


def _git(name: str, *options: str, of_users: bool = False) -> str:
    """Read a setting of Git; empty where there is none, or no Git; if it is to be the user's, not the repository's."""
    words = ["git", "config", "--show-scope", *options, "--get-all", name]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError:
        return ""
    found = [line.partition("\t")[::2] for line in done.stdout.splitlines()]
    return next((value for scope, value in reversed(found) if not of_users or scope not in OF_REPOSITORY), "")


def _program() -> str | None:
    return shutil.which(_git("gpg.ssh.program", "--type=path", of_users=True) or "ssh-keygen")


def sign(path: Path) -> None:
    """Sign a file with the SSH key that signs Git's commits; the signature is put beside it.

    Raises:
        UserError: Git has no such key, or it cannot sign.
    """
    key, program = _git("user.signingkey", "--type=path"), _program()
    if _git("gpg.format") != "ssh" or not key:
        raise UserError(
            "Git has no SSH key to sign with: git config --global gpg.format ssh, then git config --global"
            " user.signingkey ~/.ssh/id_ed25519.pub, or leave out SIGN=1."
        )
    if program is None:
        raise UserError("ssh-keygen was not found, which signs: install OpenSSH, or leave out SIGN=1.")
    literal = re.match(r"(?:key::)?((?:ssh|ecdsa|sk)-\S+ .*)", key)
    with tempfile.TemporaryDirectory() as folder:
        if literal:  # the key itself, whose private half an agent has
            (Path(folder) / "key.pub").write_text(f"{literal[1]}\n")
            key = str(Path(folder) / "key.pub")
        words = [program, "-Y", "sign", "-n", NAMESPACE, "-f", key, *(["-U"] if literal else []), str(path)]
        done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode or not _signature_path(path).exists():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1].rstrip(".")
        raise UserError(f"the key {key} cannot sign ({reason}): mend git config user.signingkey, or leave out SIGN=1.")


def require_key() -> None:
    """Refuse, with a UserError, to train for a verdict that could not be signed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "try"
        path.write_text("a try\n")
        sign(path)


def signature_of(path: Path) -> str | None:
    """Say by whom a file is signed, as far as can be known here; None where the signature is not of this content."""
    signature, program = _signature_path(path), _program()
    if not signature.is_file():
        return None if os.path.lexists(signature) else UNSIGNED
    if program is None:
        return "signed, which nobody checked: ssh-keygen was not found"
    content = path.read_bytes()

    def ask(what: str, *options: str) -> list[str]:
        words = [program, "-Y", what, *options, "-s", str(signature)]
        done = subprocess.run(words, input=content, capture_output=True)
        return [] if done.returncode else done.stdout.decode(errors="replace").splitlines() or ["yes"]

    good = ask("check-novalidate", "-n", NAMESPACE)
    if not good:
        return None
    allowed = _git("gpg.ssh.allowedSignersFile", "--type=path", of_users=True)
    for principal in ask("find-principals", "-f", allowed) if allowed else []:
        if ask("verify", "-n", NAMESPACE, "-f", allowed, "-I", principal):
            return f"signed by {principal}"
    key = re.search(r"SHA256:\S+", good[0])
    return f"signed by the key {key[0] if key else 'of an unknown fingerprint'}, which names nobody here"
