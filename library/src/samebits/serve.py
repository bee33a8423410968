"""Pages in the browser: `samebits lab` serves JupyterLab with the report, `samebits tracking` MLflow's pages.

lab: its arguments are those of `jupyter lab`; the token is the one in JUPYTER_TOKEN, else a new one at each start.
tracking: shows the runs trained with logger=mlflow, behind a password, to the user admin. It is set by environment
variables, for containers in .env: MLFLOW_BACKEND_STORE_URI (default: the file that logger=mlflow writes), MLFLOW_PORT,
and MLFLOW_TRACKING_PASSWORD, else there is a new password at each start.
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
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from .engine.errors import UserError, require_packages
from .engine.project import project

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

REPORT = "reports/report.html"
FILES = r"/reports/(.*\.(?:html|svg|png|md|csv|tex))"
PORT = "5000"
USER = "admin"
# MLflow refuses requests for other names, so that a page from elsewhere cannot reach it through the user's browser.
# tracking is its name for the other containers of compose.yaml.
HOSTS = "127.0.0.1:*,localhost:*,tracking:*"


def serve_reports(server: ServerApp) -> None:
    """Serve the files of reports/, for those who have the token: pages and pictures that belong together.

    Jupyter's own /files/ confines each page to an origin of its own, where the pictures beside it need another login.
    """
    from jupyter_server.base.handlers import AuthenticatedFileHandler

    class ReportHandler(AuthenticatedFileHandler):
        # pictures and styles are allowed, and no script
        content_security_policy = (
            "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; frame-ancestors 'self'"
        )

    route = f"{server.base_url.rstrip('/')}{FILES}"
    server.web_app.add_handlers(".*$", [(route, ReportHandler, {"path": str(project().root / "reports")})])


def links(server: ServerApp) -> list[str]:
    """Return the addresses of the report and JupyterLab, with the token, one line each; JupyterLab comes last.

    Jupyter itself would show a token of the user's own as three dots, which cannot be clicked.
    """
    token = server.identity_provider.token
    lab = urlsplit(server.public_url)._replace(query=urlencode({"token": token}) if token else "")
    report = lab._replace(path=f"{server.base_url.rstrip('/')}/{REPORT}").geturl()
    first = f"The report:  {report}" if (project().root / REPORT).exists() else f"There is no {REPORT} yet: make report"
    return [first, f"JupyterLab:  {lab.geturl()}"]


def lab_main(arguments: list[str]) -> None:
    """Start the server in the project's folder, and print the links when it answers, as the last lines."""
    require_packages("serve", "jupyterlab", "jupyter_server")
    from jupyterlab.labapp import LabApp

    os.chdir(project().root)
    server = LabApp.initialize_server(argv=["--log-level=WARN", *arguments])
    serve_reports(server)
    lines = links(server)
    server.identity_provider.token_generated = False  # else Jupyter prints links of its own, to the container's name
    server.io_loop.add_callback(lambda: print("", *lines, "Ctrl-C stops it.", sep="\n", flush=True))
    server.start()


def tracking_main(arguments: argparse.Namespace) -> None:
    """Print the link and the password, and become MLflow's server."""
    if find_spec("mlflow") is None:
        raise UserError("mlflow is not installed: make setup EXTRAS=mlflow.")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or secrets.token_urlsafe(18)
    if len(password) < 12:
        raise UserError("MLFLOW_TRACKING_PASSWORD has fewer than 12 characters, as MLflow demands: make it longer.")
    os.chdir(project().root)
    Path("models").mkdir(exist_ok=True)
    users = Path(tempfile.mkdtemp(prefix="mlflow-"))  # for the server's list of users, which holds one
    config = users / "auth.ini"
    config.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{users}/users.db\n")
    store = os.environ.get("MLFLOW_BACKEND_STORE_URI") or "sqlite:///models/mlflow.db"
    # SQLAlchemy would take this address for that of another driver, which is not installed
    store = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", store)
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": store,  # not as an argument, where everybody could read its password
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes more, for what needs language models
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)  # it points trainings at a server, and not the server at itself
    port = os.environ.get("MLFLOW_PORT") or PORT
    print(f"MLflow:  http://127.0.0.1:{port}  (user {USER}, password {password})", flush=True)
    options = ["-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1", "--allowed-hosts", HOSTS]
    options += ["--artifacts-destination", "models/mlartifacts"]
    options += ["--host", arguments.host, "--port", arguments.port or port]
    os.execve(sys.executable, [sys.executable, *options], environment)


def tracking_parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits tracking`."""
    described = argparse.ArgumentParser()
    described.add_argument("--host", default="127.0.0.1", help="address to listen on (in a container: 0.0.0.0)")
    described.add_argument("--port", help=f"port to listen on (default: MLFLOW_PORT, else {PORT})")
    return described
