"""The data of a generated project: pinned, fetched over the network."""

from __future__ import annotations

import functools
import json
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


def test_another_file_in_the_config_and_back_again(project: Project) -> None:
    """DVC makes what a stage wrote writable before it runs it again; what was fetched is known all the same."""
    example, raw = project.path / "configs/data/digits.yaml", project.path / "data/raw/digits"
    described = example.read_text()
    own = project.path / "data/external/own.csv.gz"
    shutil.copy(raw / "digits.csv.gz", own)
    changed = re.sub(r"uri: \S+", "uri: file:data/external/own.csv.gz", described)
    example.write_text(changed.replace("name: digits.csv.gz", "name: own.gz"))
    try:
        assert "digits.csv.gz: removed" in project.make("data")
        assert [path.name for path in raw.iterdir()] == ["own.gz"]
        assert "own.csv.gz" not in project.run("git", "status", "--porcelain", "--untracked-files=all", "data")
        (raw / "mine.csv").write_text("1,2\n")  # control: nobody has fetched it
        assert "mine.csv is not named in configs/data/: move it" in project.make("data", status=2)
        (raw / "mine.csv").unlink()
    finally:
        example.write_text(described)
        own.unlink()
        project.make("data")
    assert [path.name for path in raw.iterdir()] == ["digits.csv.gz"]


def test_data_sets_lie_side_by_side(project: Project, tmp_path: Path) -> None:
    """After another choice of data, runs on the data of before are evaluated; going back prepares nothing anew."""
    settings, lock = project.path / "configs/train.yaml", project.path / "dvc.lock"
    kept, locked = settings.read_text(), lock.read_text()
    other = project.path / "configs/data/half.yaml"

    def prepared() -> dict[str, int]:
        return {name: time for name, time in project.state().items() if name.startswith("data/") and "digits/" in name}

    def evaluated(run: str) -> None:
        project.python("-m", "handwritten_digits.evaluate", run, "--output", str(tmp_path / "metrics.json"))
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert metrics == json.loads((project.path / run / "metrics.json").read_text())

    before = prepared()
    described = (project.path / "configs/data/digits.yaml").read_text().replace("  test: 0.15", "  test: 0.5")
    try:
        other.write_text(described)
        settings.write_text(kept.replace("data: digits", "data: half"))
        assert "half.yaml has the name 'digits'" in project.make("data", status=2)  # or they would share a folder
        other.write_text(described.replace("name: digits\n", "name: half\n"))
        assert "prepare@half" in project.make("data")
        evaluated("models/main")
        project.make("train", "ARGS=trainer.max_epochs=1 run_name=half")
        (run,) = (f"models/{path.name}" for path in (project.path / "models").glob("half-*"))

        settings.write_text(kept)
        assert "Running" not in project.make("data")
        assert len(before) == 8 and prepared() == before
        evaluated(run)
        shutil.rmtree(project.path / "data/processed/half")
        assert "`make data`, with DATA=half" in project.make("evaluate", f"RUN={run}", status=2)
        project.make("data", "DATA=half")
        evaluated(run)
        assert "IDENTICAL" in project.make("reproduce", f"RUN={run}", "CODE=recorded")  # whose choice it was
        shutil.rmtree(project.path / run)
    finally:
        settings.write_text(kept)
        lock.write_text(locked)
        other.unlink()
        (project.path / "reports/reproduction.md").unlink(missing_ok=True)
        for folder in ("raw", "processed"):
            shutil.rmtree(project.path / "data" / folder / "half", ignore_errors=True)
    assert "Running" not in project.make("data") and prepared() == before


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
