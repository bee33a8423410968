"""The DVC remote: where data and weights are kept for others. Whatever fails there is said in one sentence."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..config import ROOT
from ..errors import UserError
from ..repro.redact import redact


@contextmanager
def opened() -> Iterator[Any]:
    """Open the project's DVC repository, if it has a remote that can be used from here.

    Raises:
        UserError: there is no Git, no remote, no package for its kind, or it does not answer.
    """
    from dvc.repo import Repo  # here, because it takes half a second

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a traceback where a server cannot be reached
    with one_sentence("DVC"):
        repo = Repo(str(ROOT))
    with repo:
        url = address(repo)
        scheme = urlsplit(url).scheme
        if (ROOT / "requirements" / f"{scheme}.txt").exists() and find_spec(f"dvc_{scheme}") is None:
            raise UserError(f"{url} needs packages that are not installed: run `make setup EXTRAS={scheme}`.")
        if scheme == "ssh":
            check_host_keys()
        with one_sentence(url):
            storage = repo.cloud.get_remote_odb()
            storage.fs.exists(storage.path)  # the answer does not matter; that there is one does
        yield repo


def address(repo: Any) -> str:
    """Read the address of the default remote, without a password.

    Raises:
        UserError: none is set.
    """
    name = repo.config["core"].get("remote")
    if name not in repo.config["remote"]:
        raise UserError(
            f"{f'the DVC remote {name!r} is not described' if name else 'no DVC remote is set'} in .dvc/config: run"
            " `.venv/bin/dvc remote add --default storage <URL or absolute path>`, and commit .dvc/config."
        )
    return str(redact(repo.config["remote"][name]["url"]))


def push(repo: Any) -> int:
    """Send what the remote has not, and return the number of files.

    Raises:
        UserError: it cannot be reached, or does not take all.
    """
    with one_sentence(address(repo)):
        return int(repo.push())


def pull(repo: Any) -> list[str]:
    """Fetch what is not here, and return the files and folders that have changed.

    Raises:
        UserError: the remote cannot be reached, or has not all.
    """
    from dvc.exceptions import CheckoutError, DvcException

    with one_sentence(address(repo)):
        try:
            done = repo.pull()
        except CheckoutError as error:
            raise UserError(
                f"{', '.join(map(str, error.target_infos))} cannot be had from {address(repo)}: somebody who has them"
                " runs `make push`, or `make train` makes the main run's again. All else is here."
            ) from error
        except DvcException as error:
            if not re.search("without (a )?confirmation", str(error)):
                raise
            files = [Path(line).relative_to(ROOT) for line in str(error).splitlines() if line.startswith(str(ROOT))]
            raise UserError(
                f"{', '.join(map(str, files[:3])) or error} would be replaced or removed, and nobody else has it: move"
                " it away, then run `make pull` again."
            ) from error
    return sorted(str(path) for kind in ("added", "modified", "deleted") for path in done.get(kind) or [])


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
def one_sentence(what: str) -> Iterator[None]:
    """Turn whatever DVC and the libraries below it raise into a sentence.

    Args:
        what: that failed, an address for example.

    Raises:
        UserError: instead of any other error.
    """
    from asyncssh import DisconnectError, HostKeyNotVerifiable
    from dvc.scm import SCMError

    try:
        yield
    except UserError:
        raise
    except SCMError as error:
        raise not_in_git(str(error)) from error
    except HostKeyNotVerifiable as error:
        raise UserError(
            f"{what}: the server is not in ~/.ssh/known_hosts, or its key has changed: connect once with"
            " `ssh -p <port> <user>@<server>`, and compare the fingerprint that it shows with the administrator's."
        ) from error
    except DisconnectError as error:
        if not re.search("(?i)permission denied|authentication", str(error)):
            raise UserError(f"{what}: the connection ended ({error}).") from error
        raise UserError(
            f"{what}: the server does not accept your key: name it with"
            " `.venv/bin/dvc remote modify --local storage keyfile <path>`, or for the server in ~/.ssh/config."
        ) from error
    except Exception as error:  # each kind of storage has a library with errors of its own
        said = " ".join(redact(str(error)).split()) or type(error).__name__
        raise UserError(f"{what}: {said.rstrip('.')}.") from error


def not_in_git(reason: str) -> UserError:
    """Say how a project comes into Git.

    Args:
        reason: in the words of Git or DVC.
    """
    return UserError(
        f"{ROOT} is not in Git ({reason}): delete `no_scm` from .dvc/config if it is there, then run"
        " `git init && git add . && git commit -m 'Start the project'`."
    )
