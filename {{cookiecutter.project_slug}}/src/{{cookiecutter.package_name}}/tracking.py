"""Serve MLflow's pages behind a password: `make tracking`, or `docker compose up tracking`.

They show the runs trained with logger=mlflow. What is set is set by environment variables, for containers in .env:
MLFLOW_BACKEND_STORE_URI (default: the file that logger=mlflow writes), MLFLOW_PORT, and MLFLOW_TRACKING_PASSWORD, else
there is a new password at each start. The user is called admin.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from .cli import run_with_arguments
from .config import ROOT
from .errors import UserError

PORT = "5000"
USER = "admin"
# MLflow refuses requests for other names, so that a page from elsewhere cannot reach it through the user's browser.
# tracking is its name for the other containers of compose.yaml.
HOSTS = ("127.0.0.1:*", "localhost:*", "tracking:*")


def settings(users: Path) -> dict[str, str]:
    """Return the environment of the server.

    Args:
        users: a folder for its list of users, which holds one and is made anew at each start.

    Raises:
        UserError: the password is too short for MLflow.
    """
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or secrets.token_urlsafe(18)
    if len(password) < 12:
        raise UserError("MLFLOW_TRACKING_PASSWORD has fewer than 12 characters, as MLflow demands: make it longer.")
    config = users / "auth.ini"
    config.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{users}/users.db\n")
    store = os.environ.get("MLFLOW_BACKEND_STORE_URI") or "sqlite:///models/mlflow.db"
    # SQLAlchemy would take this address for that of another driver, which is not installed
    store = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", store)
    # what points trainings at a server must not point the server at itself
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return kept | {
        "MLFLOW_BACKEND_STORE_URI": store,  # not as an argument, where everybody could read its password
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes more, for what needs language models
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def main(arguments: argparse.Namespace) -> None:
    """Print the link and the password, and become MLflow's server."""
    if find_spec("mlflow") is None:
        raise UserError("mlflow is not installed: make setup EXTRAS=mlflow.")
    os.chdir(ROOT)
    (ROOT / "models").mkdir(exist_ok=True)
    environment = settings(Path(tempfile.mkdtemp(prefix="mlflow-")))
    port = os.environ.get("MLFLOW_PORT") or PORT
    password = environment["MLFLOW_AUTH_ADMIN_PASSWORD"]
    print(f"MLflow:  http://127.0.0.1:{port}  (user {USER}, password {password})", flush=True)
    options = {
        "--app-name": "basic-auth",
        "--host": arguments.host,
        "--port": arguments.port or port,
        "--workers": "1",
        "--allowed-hosts": ",".join(HOSTS),
        "--artifacts-destination": "models/mlartifacts",
    }
    words = [word for option in options.items() for word in option]
    os.execve(sys.executable, [sys.executable, "-m", "mlflow", "server", *words], environment)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m <package>.tracking", description=__doc__.split(":")[0])
    described.add_argument("--host", default="127.0.0.1", help="address to listen on (in a container: 0.0.0.0)")
    described.add_argument("--port", help=f"port to listen on (default: MLFLOW_PORT, else {PORT})")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
