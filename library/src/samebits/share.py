"""Share runs with others: `samebits push [RUN ...]`, `samebits pull`, or `make push`, `make pull`.

Git keeps the texts of shared runs (models/.gitignore lists them), DVC their weights (shared/<run>.dvc, apart from
models/, whose folders hold what runs wrote and nothing else), and the DVC remote has weights and data.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .engine import git_snapshot
from .engine import record as records
from .engine.errors import UserError, require_packages
from .engine.files import write_atomically
from .engine.git_snapshot import NoGit
from .engine.printing import warn
from .engine.project import project
from .engine.record import RECORD, WEIGHTS
from .engine.run_loader import main_run
from .engine.secrets import redact
from .verify.provenance_diff import require_no_secret, require_unedited

BEGIN, END = "# Shared runs, one a line: `make push` writes them", "# End of the shared runs"
NEVER_SHARED = ("debug-", "reference-")  # the beginnings of names
LISTED = re.compile(rf"{BEGIN}\n?((?:!/.*\n?)*)(?:{END}\n?)?")  # in models/.gitignore
RUN_NAME = re.compile(r"[A-Za-z0-9_=,+-][A-Za-z0-9_=.,+-]*")  # Git reads other characters as patterns
# what DVC has written to its end; where it was killed meanwhile, it would pass the run over from then on
WHOLE = re.compile(r"outs:\n.*\nwdir: \S+\n", re.DOTALL)
TRIED_LINK = re.compile(r"\.[\w-]{22}\.tmp")  # a file by which DVC tries out links; one that was killed leaves it
TO_COMMIT = ("models", "shared", "dvc.lock", ".dvc")  # what a user commits after sharing


@contextmanager
def open_repository() -> Iterator[tuple[Any, str]]:
    """Open the project's DVC repository, and find its remote's address; without a remote that can be used, refuse."""
    require_packages("share", "dvc", "dvc_ssh")
    from dvc.repo import Repo  # here, because it takes half a second

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback where a server cannot be reached
    with storage_errors(str(project().root)):
        repo = Repo(str(project().root))
        remove_cut_lock(Path(repo.tmp_dir or project().root))
    with repo:
        name = repo.config["core"].get("remote")
        if name not in repo.config["remote"]:
            raise UserError(
                f"{f'the DVC remote {name!r} is not described' if name else 'no DVC remote is set'} in .dvc/config: run"
                " `.venv/bin/dvc remote add --default storage <URL or absolute path>`, and commit .dvc/config."
            )
        address = str(redact(repo.config["remote"][name]["url"]))
        scheme = urlsplit(address).scheme
        if (project().root / "requirements" / f"{scheme}.txt").exists() and find_spec(f"dvc_{scheme}") is None:
            raise UserError(f"{address} needs packages that are not installed: run `make setup EXTRAS={scheme}`.")
        if scheme == "ssh":
            check_host_keys()
        with storage_errors(address):
            storage = repo.cloud.get_remote_odb()
            storage.fs.exists(storage.path)  # the answer does not matter; that there is one does
        yield repo, address


def remove_cut_lock(folder: Path) -> None:
    """Remove DVC's list of who reads and writes where that is empty: a DVC was killed when it had begun to write it.

    DVC itself would refuse to work for ever.
    """
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = folder / RWLOCK_FILE
    if path.is_file() and not path.stat().st_size:
        with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder)):  # no other one writes it now
            if not path.stat().st_size:
                path.unlink()


def check_host_keys() -> None:
    """Have DVC trust the SSH servers in ~/.ssh/known_hosts alone, as `ssh` does, and lend none of them the key agent.

    By itself it trusts whoever answers: sshfs, on which it builds, turns the check off and DVC has no setting for it.
    """
    from dvc_ssh import SSHFileSystem

    prepare = SSHFileSystem._prepare_credentials

    def careful(self: Any, **config: Any) -> dict[str, Any]:
        return {**prepare(self, **config), "known_hosts": (), "agent_forwarding": False}

    SSHFileSystem._prepare_credentials = careful


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn whatever DVC and the libraries below it raise into a sentence on `what` failed, an address for example."""
    from asyncssh import DisconnectError, HostKeyNotVerifiable
    from dvc.exceptions import CheckoutError
    from dvc.scm import SCMError

    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each kind of storage has a library with errors of its own
        reason = " ".join(redact(str(error)).split()).rstrip(".") or type(error).__name__
        if isinstance(error, SCMError | NoGit):
            reason = f"the project is not in Git ({reason}): delete `no_scm` from .dvc/config if it is there, then run"
            reason += " `git init && git add . && git commit -m 'Start the project'`"
        elif isinstance(error, HostKeyNotVerifiable):
            reason = "the server is not in ~/.ssh/known_hosts, or its key has changed: connect once with `ssh -p <port>"
            reason += " <user>@<server>`, and compare the fingerprint that it shows with the administrator's"
        elif isinstance(error, DisconnectError) and re.search("(?i)permission denied|authentication", reason):
            reason = "the server does not accept your key: name it with `.venv/bin/dvc remote modify --local storage"
            reason += " keyfile <path>`, or for the server in ~/.ssh/config"
        elif isinstance(error, DisconnectError):
            reason = f"the connection ended ({reason})"
        elif isinstance(error, CheckoutError):
            reason = f"{', '.join(map(str, error.target_infos))} cannot be had from there: somebody who has them runs"
            reason += " `make push`, or `make train` makes the main run's again. All else is here"
        elif re.search("without (a )?confirmation", reason):
            here = f"{project().root}{os.sep}"
            files = [line.removeprefix(here) for line in str(error).splitlines() if line.startswith(here)]
            reason = f"{', '.join(files[:3]) or reason} would be replaced or removed, and nobody else has it: move it"
            reason += " away, then run `make pull` again"
        raise UserError(f"{what}: {reason}.") from error


def shared_runs(root: Path) -> set[str]:
    """Return the names of the runs that are shared already."""
    if not (path := root / "models" / ".gitignore").exists():
        raise UserError(f"{path} is missing, in which shared runs are listed: write `/*` and `!/.gitignore` into it.")
    listed = LISTED.search(path.read_text())
    names = {line.removeprefix("!/") for line in listed[1].splitlines()} if listed else set()
    return names | {path.stem for path in (root / "shared").glob("*.dvc")}


def finished_runs(root: Path) -> set[str]:
    """Return the names of the finished runs that others may want to see."""
    names = set()
    for run in records.run_folders(root / "models"):
        try:
            finished = records.read_json(run / RECORD)["observed"]["status"] == "finished"
        except (UserError, KeyError, TypeError):
            if not (finished := os.path.lexists(run / RECORD)):  # if there, `require_shareable` names what is wrong
                warn(f"{run.name} is left out, since its {RECORD} is missing.")
        if finished and not run.name.startswith(NEVER_SHARED):
            names.add(run.name)
    return names - {main_run().name}  # which the pipeline shares


def named_runs(runs: Sequence[Path], root: Path) -> set[str]:
    """Return the names of runs that the user asks to share; refuse what is not to be shared."""
    for run in runs:
        records.read_finished(run)
        if run.resolve().parent != (root / "models").resolve():
            raise UserError(f"{run} is not in models/, so it is no run of this project: name one that is.")
        if run.resolve().name.startswith(NEVER_SHARED):
            raise UserError(f"{run} was made to try something out, and is not shared: name another run.")
    return {run.resolve().name for run in runs} - {main_run().name}  # which the pipeline shares


def require_shareable(names: Iterable[str], root: Path) -> None:
    """Refuse to share what was edited after the training, or has no weights that could be shared."""
    for run in (root / "models" / name for name in sorted(names)):
        place = os.path.relpath(run)
        if not RUN_NAME.fullmatch(run.name):
            raise UserError(f"{place!r} has a name that Git would read as a pattern: use letters, digits, - and _.")
        if not (run / WEIGHTS).exists() and not is_whole(root / "shared" / f"{run.name}.dvc"):
            raise UserError(
                f"{place}/{WEIGHTS} is missing, so it cannot be shared: move the run away, or train it again."
            )
        require_unedited(run)
        require_no_secret(run)


def is_whole(pointer: Path) -> bool:
    """Whether a file by which DVC knows weights, or is to know them, is there to its end."""
    return pointer.is_file() and WHOLE.fullmatch(pointer.read_text(errors="replace")) is not None


@contextmanager
def write_pointers(names: Iterable[str], root: Path) -> Iterator[list[Path]]:
    """Make these the shared runs, for Git; yield the files by which DVC is to know their weights, if they are here.

    A file that is new is a request, in which DVC enters the hash. Should the body fail, all is as it was before.
    """
    pointers = {root / "shared" / f"{name}.dvc": name for name in sorted(names)}
    gitignore = root / "models" / ".gitignore"
    paths = {gitignore, *(root / "shared").glob("*.dvc"), *pointers}
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        old = gitignore.read_text()
        listed = "".join(f"!/{name}\n" for name in pointers.values())
        text = old if LISTED.search(old) else f"{old.rstrip()}\n{BEGIN}\n"
        text = LISTED.sub(lambda _: f"{BEGIN}\n{listed}{END}\n", text, count=1)
        if text != old:
            write_atomically(gitignore, text.encode())
        for path in paths - {gitignore, *pointers}:
            path.unlink()
        for path, name in pointers.items():
            if not is_whole(path) and (before[path] is None or (root / "models" / name / WEIGHTS).exists()):
                path.parent.mkdir(exist_ok=True)
                write_atomically(path, f"outs:\n- path: {WEIGHTS}\n  hash: md5\nwdir: ../models/{name}\n".encode())
        yield [path for path, name in pointers.items() if (root / "models" / name / WEIGHTS).exists()]
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_atomically(path, content)
        raise


def main(arguments: argparse.Namespace) -> None:
    """Share the runs, send what the remote has not, and print what is to be done next."""
    root = project().root
    with open_repository() as (repo, address):
        with storage_errors(str(root)):
            git_snapshot.text(root, "rev-parse", "--show-toplevel")
            private = git_snapshot.private_states(root)
        for run, name in private:
            mend = f"git update-ref -d refs/runs/{run} forgets that state of the code ({len(private)} files in all)"
            raise UserError(f"refs/runs/{run} holds {name}, which is private, and would be shared with it: {mend}.")
        before = shared_runs(root)
        here = {name for name in before if (root / "models" / name).is_dir()}
        names = here | (named_runs(arguments.runs, root) if arguments.runs else finished_runs(root))
        require_shareable(names, root)
        for left in (path for path in (root / "models").glob("*/.*.tmp") if TRIED_LINK.fullmatch(path.name)):
            left.unlink(missing_ok=True)
        with write_pointers(names, root) as pointers, storage_errors("DVC"):
            changed = repo.status([*map(str, pointers)]) if pointers else {}
            for path in pointers:
                if str(path.relative_to(root)) in changed:
                    repo.commit(str(path), force=True)
            with storage_errors(address):
                count = int(repo.push())  # if this fails, nothing has been shared
        print(f"{'shared':<8}{len(names)} runs beside the main one, {len(names - before)} of them new")
        for name in sorted(before - names):
            print(f"{'gone':<8}{name}: its directory is no longer here")
        print(f"{'sent':<8}{count} files to {address}")
    status = git_snapshot.text(root, "status", "--porcelain", "--", *TO_COMMIT)
    if paths := [path for path in TO_COMMIT if f" {path}" in status]:
        print(f"{'next':<8}git add --all {' '.join(paths)} && git commit")
    print(f"{'then':<8}git push && git push origin 'refs/runs/*' (the second sends the code of each run)")


def parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits push`."""
    described = argparse.ArgumentParser(description="Share runs: texts by Git, weights and data by the DVC remote.")
    text = "folder of a run, to be shared beside those that are (default: all finished runs but debug and reference)"
    described.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=text)
    return described


def pull_main(arguments: argparse.Namespace) -> None:
    """Fetch what is not here, and print which files and folders have changed."""
    with open_repository() as (repo, address):
        with storage_errors(address):
            done = repo.pull()
        changed = sorted(str(path) for kind in ("added", "modified", "deleted") for path in done.get(kind) or [])
        for path in changed:
            print(f"{'new':<8}{path}")
        print(f"{'pulled':<8}{len(changed)} files and folders from {address}; the others were here")
