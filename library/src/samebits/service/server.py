"""`samebits serve [RUN]`: answer with a run's predictions over HTTP.

To this computer alone, without a token; at other addresses with one, from SERVE_TOKEN, else a new one at each start.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from ..engine.errors import UserError
from ..engine.project import project
from ..engine.record import read_finished
from ..engine.run_loader import main_run
from ..verify.provenance_diff import require_unedited

HOST, PORT = "127.0.0.1", 8000
LEAST_TOKEN = 16  # characters
MOST_CONNECTIONS = 256
PACKAGES = ("fastapi", "uvicorn", "python_multipart")


def parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits serve`."""
    described = argparse.ArgumentParser()
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: models/main)")
    described.add_argument("--host", default=HOST, help=f"address to listen on ({HOST}; in a container: 0.0.0.0)")
    described.add_argument("--port", type=int, help=f"port to listen on (default: SERVE_PORT, else {PORT})")
    described.add_argument("--megabytes", type=float, default=10, help="that a request may have (10)")
    described.add_argument("--seconds", type=float, default=30, help="that a request may take (30)")
    return described


def own_token(host: str) -> str | None:
    """Return the token that is asked for: none at this computer's own address, unless there is one in SERVE_TOKEN."""
    given = os.environ.get("SERVE_TOKEN")
    if given and len(given) < LEAST_TOKEN:
        raise UserError(f"SERVE_TOKEN has fewer than {LEAST_TOKEN} characters, and could be guessed: make it longer.")
    own = host in ("localhost", "::1") or host.startswith("127.")
    return given or (None if own else secrets.token_urlsafe(24))


def main(arguments: argparse.Namespace) -> None:
    """Refuse a run that was edited; else serve it until Ctrl-C."""
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(f"{missing[0]} is not installed: make setup EXTRAS=serve.")
    token = own_token(arguments.host)
    run = (arguments.run or main_run()).absolute()
    record = read_finished(run)
    require_unedited(run)
    try:
        port = arguments.port if arguments.port is not None else int(os.environ.get("SERVE_PORT") or PORT)
        family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
        listening = socket.create_server((arguments.host, port), family=family)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else each answer waits for 40 ms
    except (OSError, OverflowError, ValueError) as error:
        raise UserError(f"{arguments.host} cannot be listened at ({error}): name another port, with --port.") from error
    with listening, tempfile.TemporaryDirectory(prefix="serve-") as folder:
        about = {"run": record["run"], "weights": record["outputs"]["weights"]}
        asyncio.run(_serve(arguments, run, about, token, listening, Path(folder)))


async def _serve(
    arguments: argparse.Namespace,
    run: Path,
    about: dict[str, str],
    token: str | None,
    listening: socket.socket,
    folder: Path,
) -> None:
    import uvicorn

    from .app import make_app
    from .guard import Guard
    from .predictor import Predictor

    predictor = Predictor(run, about["weights"], arguments.seconds)
    await predictor.start()
    try:
        app = make_app(predictor, about, project().name.replace("_", " "), folder)
        guarded = Guard(app, about, token, int(arguments.megabytes * 1e6), arguments.seconds)
        config = uvicorn.Config(
            guarded,
            log_level="warning",
            access_log=False,  # addresses may hold the token
            ws="none",
            lifespan="off",
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
        host, port = listening.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host, port = HOST, int(os.environ.get("SERVE_PORT") or port)  # as it is published
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        print(f"Predictions of {about['run']}:  {where}{f'?token={quote(token)}' if token else ''}", flush=True)
        await uvicorn.Server(config).serve(sockets=[listening])
    finally:
        await predictor.stop()
