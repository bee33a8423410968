"""The data of a generated project: pinned, fetched over the network."""

from __future__ import annotations

import functools
import re
import shutil
import ssl
import stat
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .conftest import Project

pytestmark = pytest.mark.project


def test_a_replaced_data_file_is_refused(project: Project) -> None:
    raw = project.path / "data/raw/digits/digits.csv.gz"
    assert not raw.stat().st_mode & stat.S_IWUSR
    config = project.path / "configs/data/digits.yaml"
    content = config.read_text()
    config.write_text(re.sub(r'sha256: "\w+"', f'sha256: "{"f" * 64}"', content))
    output = project.make("data", status=2)
    config.write_text(content)
    assert "has the sha256 09f66e6d" in output and "pins ffffff" in output and "Traceback" not in output
    project.make("data")


def test_another_choice_of_data_and_back_again(project: Project) -> None:
    """DVC makes what a stage wrote writable before it runs it again; what was fetched is known all the same."""
    settings, example = project.path / "configs/train.yaml", project.path / "configs/data/digits.yaml"
    kept, described = settings.read_text(), example.read_text()
    own = project.path / "data/external/own.csv.gz"
    shutil.copy(project.path / "data/raw/digits/digits.csv.gz", own)
    other = example.with_name("other.yaml")
    other.write_text(
        re.sub(r"uri: \S+", "uri: file:data/external/own.csv.gz", described).replace(
            "name: digits.csv.gz", "name: own.gz"
        )
    )
    settings.write_text(kept.replace("data: digits", "data: other"))
    example.unlink()  # as "Making it yours" says
    try:
        assert "digits.csv.gz: removed" in project.make("data")
        assert [path.name for path in (project.path / "data/raw/digits").iterdir()] == ["own.gz"]
        assert "own.csv.gz" not in project.run("git", "status", "--porcelain", "--untracked-files=all", "data")
        (project.path / "data/raw/mine.csv").write_text("1,2\n")  # control: nobody has fetched it
        assert "mine.csv is not named in configs/data/: move it" in project.make("data", status=2)
        (project.path / "data/raw/mine.csv").unlink()
    finally:
        settings.write_text(kept)
        example.write_text(described)
        other.unlink()
        own.unlink()
        project.make("data")
    assert [path.name for path in (project.path / "data/raw/digits").iterdir()] == ["digits.csv.gz"]


def test_fetching_over_https(project: Project, tmp_path: Path) -> None:
    """A real server with a certificate of its own: what it serves is kept only if it is what the config pins."""
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    (tmp_path / "www").mkdir()
    shutil.copy(project.path / "data/raw/digits/digits.csv.gz", tmp_path / "www/digits.csv.gz")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "www"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"https://localhost:{server.server_address[1]}"

        def fetch(uri: str, raw: str, status: int = 0) -> str:
            options = [f"data.files.0.uri={uri}", f"paths.raw={tmp_path / raw}"]
            trust = {"REQUESTS_CA_BUNDLE": certificate, "NO_PROXY": "localhost"}
            return project.python("-m", "samebits", "fetch", *options, status=status, **trust)

        fetch(f"{address}/digits.csv.gz", "good")
        assert "cannot be fetched" in fetch(f"{address}/missing.csv.gz", "missing", status=2)
        (tmp_path / "www/digits.csv.gz").chmod(0o644)
        (tmp_path / "www/digits.csv.gz").write_bytes(b"another file")
        assert "has the sha256" in fetch(f"{address}/digits.csv.gz", "changed", status=2)
        server.shutdown()
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["digits.csv.gz"]
    assert not [*(tmp_path / "missing").iterdir(), *(tmp_path / "changed").iterdir()]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass
