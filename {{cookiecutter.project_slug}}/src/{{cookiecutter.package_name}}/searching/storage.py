"""Where trials are kept: the database, and whose turn it is to change the list of trials."""

from __future__ import annotations

import threading
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, RDBStorage, get_storage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from ..errors import UserError
from ..repro.redact import redact

UNAVAILABLE = (optuna.exceptions.OptunaError, SQLAlchemyError)  # what goes wrong with a database, at any time
PATIENCE = 60  # seconds for another process to finish writing
FOLDER = "folder"  # file whose content tells this folder from others
KNOWN = ("sqlite", "postgresql", "mysql")  # databases that can let one worker after the other choose

Turn = Callable[[], AbstractContextManager[None]]


def open_storage(address: str) -> tuple[BaseStorage, Turn]:
    """Open the database of an address.

    Returns:
        Optuna's storage, and what makes a context in which no other worker, here or elsewhere, has its turn.

    Raises:
        UserError: there is no such database, or no driver for it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    said = redact(address)
    try:
        url = make_url(address)
        kind = url.get_backend_name()
        if kind not in KNOWN:
            raise UserError(f"search.storage is {said}, but may be of {', '.join(KNOWN)} only: choose one of these.")
        if kind == "sqlite" and url.database in (None, "", ":memory:"):
            raise UserError(f"search.storage is {said}, which names no file: write sqlite:///models/search.db.")
        turn = _turns_by_file(Path(str(url.database))) if kind == "sqlite" else _turns_by_database(url, kind)
        more: dict[str, Any] = {"connect_args": {"timeout": PATIENCE}} if kind == "sqlite" else {"pool_pre_ping": True}
        with turn():  # tables are made once
            return get_storage(RDBStorage(address, engine_kwargs=more)), turn
    except (ImportError, NoSuchModuleError) as error:
        raise UserError(
            f"search.storage is {said}, whose driver is not installed ({error}): the one for PostgreSQL comes by"
            " `make setup EXTRAS=mlflow`, as postgresql+psycopg2://..."
        ) from error
    except (OSError, ArgumentError, RuntimeError, *UNAVAILABLE) as error:
        reason = why(error)
        raise UserError(
            f"search.storage is {said}, which cannot be opened ({reason}): see to address and server."
        ) from None


def why(error: BaseException) -> str:
    """Say in a few words what is wrong with a database, without passwords."""
    return redact(" ".join(str(error.__cause__ or error).split()))[:200]


def folder_id(models: Path) -> str:
    """Name this folder: the same for all who share it, another one for a copy."""
    path = models / ".locks" / FOLDER
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(uuid.uuid4().hex)
    except FileExistsError:
        pass
    return f"{path.read_text()}-{path.stat().st_ino}"


_threads = threading.Lock()  # a lock of a file keeps out other processes, but not our own threads


def _turns_by_file(database: Path) -> Turn:
    """Take turns by a lock of a file beside the database's, which the system takes back when a process ends."""

    @contextmanager
    def turn() -> Iterator[None]:
        database.parent.mkdir(parents=True, exist_ok=True)
        with _threads, database.with_name(f"{database.name}.lock").open("a") as file:
            try:
                import fcntl
            except ImportError:  # Windows, where nothing here locks
                yield
                return
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    return turn


def _turns_by_database(url: URL, kind: str) -> Turn:
    """Take turns by a lock of the database's, which it takes back when a connection ends."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    if kind == "postgresql":
        take, name = "SELECT pg_advisory_xact_lock(:name)", zlib.crc32(b"search")
        give = None
    else:
        take, name = f"SELECT GET_LOCK(:name, {60 * PATIENCE})", "search"  # type: ignore[assignment]
        give = "SELECT RELEASE_LOCK(:name)"

    @contextmanager
    def turn() -> Iterator[None]:
        with _threads, engine.begin() as connection:
            connection.execute(sqlalchemy.text(take), {"name": name})
            try:
                yield
            finally:
                if give:
                    connection.execute(sqlalchemy.text(give), {"name": name})

    return turn
