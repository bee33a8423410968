"""The service around a run of the dummy project, started once, and what is asked of it."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from .project import NAME, ROOT, module
from .trainings import PLENTY, prepare

MEGABYTES, SECONDS = 1, 10
ROWS = "\n".join(",".join(str((row * 7 + column * 3) % 17) for column in range(64)) for row in range(5)).encode()


@dataclass(frozen=True)
class Reply:
    """What was answered: status, headers in lower case, text."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def form(name: str, content: bytes, /, **fields: str) -> tuple[bytes, dict[str, str]]:
    """Write a form with a file and fields, as a browser does: its body and its headers."""
    parts = [
        f'--xx\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
    ]
    head = f'--xx\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = "".join(parts).encode() + head.encode("utf-8", "surrogateescape") + content + b"\r\n--xx--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=xx"}


@dataclass(frozen=True)
class Service:
    """A server that runs, at a port of this computer."""

    process: subprocess.Popen[str]
    port: int
    token: str
    link: str

    def ask(
        self, method: str = "GET", path: str = "/", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """Ask once."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        reply = Reply(response.status, found, response.read().decode())
        connection.close()
        return reply

    def predict(self, name: str, content: bytes, /, **fields: str) -> Reply:
        """Send a file."""
        body, headers = form(name, content, **fields)
        return self.ask("POST", "/predict", body, headers)

    def raw(self, content: bytes, seconds: float = 60) -> str:
        """Send bytes as they are, and return all that comes until the other side closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            found = b""
            with suppress(OSError):  # it may close while this is sent, or say nothing
                connection.sendall(content)
                while piece := connection.recv(65536):
                    found += piece
            return found.decode("latin-1")

    def stop(self) -> str:
        """End it, and return what it printed."""
        self.process.terminate()
        return self.process.communicate(timeout=60)[0]


@cache
def trained() -> Path:
    """Train two steps in a folder of its own; return the run's directory."""
    folder = Path(tempfile.mkdtemp(prefix="served-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare(folder)
    words = ["debug=fast", f'paths.root="{folder}"', "snapshot=false"]
    subprocess.run([sys.executable, "-m", f"{NAME}.train", *words], cwd=ROOT, check=True, capture_output=True)
    (run,) = (path.parent for path in folder.glob("models/*/record.json"))
    return run


def start(run: Path, *words: str, project: Path = ROOT, change: str = "", **variables: str) -> Service:
    """Serve a run, until it answers; after a change of the code, for controls."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVE_")} | variables
    options = ["--port=0", f"--megabytes={MEGABYTES}", f"--seconds={SECONDS}", *words]
    process = subprocess.Popen(
        [sys.executable, "-c", f"{change}\nfrom samebits.cli import main; main()", "serve", str(run), *options],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if found := re.search(r"(http://\S+?:(\d+)/(?:\?token=(\S+))?)\s", line):
            atexit.register(process.kill)
            return Service(process, int(found[2]), found[3] or "", found[1])
    raise AssertionError(f"it ended with {process.wait(PLENTY)}: {printed}")


@cache
def served() -> Service:
    """Serve the trained run to this computer, once for all tests of a process."""
    return start(trained())


@cache
def expected() -> Any:
    """Predict the rows by the command predict, in a process of its own."""
    path = trained().parent / "rows.csv"
    path.write_bytes(ROWS)
    words = [sys.executable, "-m", f"{NAME}.predict", str(path), "--run", str(trained()), "--json"]
    return json.loads(subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def about() -> dict[str, str]:
    """What each answer has to say: the run, and the digest of its weights."""
    record = module("samebits.engine.record").read_record(trained())
    return {"run": record["run"], "weights": record["outputs"]["weights"]}
