"""Serve JupyterLab and say where it is, and where the report is: `make lab`, or `docker compose up`.

Arguments are those of `jupyter lab`. The token is the one in JUPYTER_TOKEN, else a new one at each start.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlencode, urlsplit

from jupyter_server.base.handlers import AuthenticatedFileHandler
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from jupyterlab.labapp import LabApp

from .config import ROOT

REPORT = "reports/report.html"


class ReportHandler(AuthenticatedFileHandler):
    """Serves the files of reports/, for those who have the token: pages and pictures that belong together.

    Jupyter's own /files/ confines each page to an origin of its own, where the pictures beside it need another login.
    """

    @property
    def content_security_policy(self) -> str:
        """Allow pictures and styles, and no script."""
        return "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; frame-ancestors 'self'"


def links(server: ServerApp) -> list[str]:
    """Say where the report and JupyterLab are, with the token, one line each; JupyterLab comes last.

    Jupyter itself would show a token of the user's own as three dots, which cannot be clicked.
    """
    token = server.identity_provider.token
    address = urlsplit(server.public_url)._replace(query=urlencode({"token": token}) if token else "")
    lines = [f"JupyterLab:  {address.geturl()}"]
    if (ROOT / REPORT).exists():
        report = address._replace(path=url_path_join(server.base_url, REPORT))
        return [f"The report:  {report.geturl()}", *lines]
    return [f"There is no {REPORT} yet: make report", *lines]


def main(arguments: list[str]) -> None:
    """Start the server in the project's folder, and print the links when it answers, as the last lines."""
    os.chdir(ROOT)
    server = LabApp.initialize_server(argv=["--log-level=WARN", *arguments])
    route = url_path_join(server.base_url, r"/reports/(.*\.(?:html|svg|png|md|csv|tex))")
    server.web_app.add_handlers(".*$", [(route, ReportHandler, {"path": str(ROOT / "reports")})])
    lines = links(server)
    server.identity_provider.token_generated = False  # else Jupyter prints links of its own, to the container's name
    server.io_loop.add_callback(lambda: print("", *lines, "Ctrl-C stops it.", sep="\n", flush=True))
    server.start()


if __name__ == "__main__":
    main(sys.argv[1:])
