"""Predictions over HTTP: `make serve` in a project, and its container, whose image holds what serving needs alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from .conftest import IN_A_CONTAINER, Project, free_port, fresh

TOKEN = "a token of this test"
ROWS = [[(7 * row + 3 * column) % 17 for column in range(64)] for row in range(3)]
MOST_OF_TRAINING = 0.6  # of the training image's size


def ask(port: int, token: str | None = None) -> tuple[int, Any]:
    """Send the rows; return status and answer."""
    words = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", json.dumps({"rows": ROWS}).encode(), words)
    for _ in range(240):
        try:
            with urllib.request.urlopen(request) as answer:
                return int(answer.status), json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            time.sleep(0.5)
    raise TimeoutError("the service did not answer within two minutes")


def expected(project: Project, folder: Path) -> dict[str, Any]:
    """Say what the command predict says of the rows, with what the record says of the run."""
    path = folder / "rows.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in ROWS))
    printed = project.python("-m", "handwritten_digits.predict", str(path), "--json")
    record = json.loads((project.path / "models/main/record.json").read_text())
    predictions = json.loads(printed[printed.index("[") : printed.rindex("]") + 1])  # without what goes to stderr
    return {"run": record["run"], "weights": record["outputs"]["weights"], "predictions": predictions}


def test_make_serve_is_enough(project: Project, tmp_path: Path) -> None:
    """It installs what it needs, keeps what was installed, and answers with the bits of predict.py."""
    made = fresh(project, tmp_path)
    for name in ("models", "data"):
        shutil.copytree(project.path / name, made.path / name, dirs_exist_ok=True)
    made.make("setup", "EXTRAS=tensorboard")
    port = free_port()
    words = ["make", "serve", f"ARGS=--port={port}"]
    with subprocess.Popen(words, cwd=made.path, start_new_session=True) as process:
        try:
            assert ask(port) == (200, expected(made, tmp_path))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
    assert "extras=tensorboard" in (made.path / ".venv/.choices").read_text()
    assert (made.path / ".venv/.with-serve").exists() and (made.path / ".venv/.with-tensorboard").exists()


@pytest.mark.container
def test_its_container_asks_for_a_token_and_is_small(served: tuple[Project, int], tmp_path: Path) -> None:
    project, _ = served
    port = free_port()
    project.path.chmod(0o700)  # read by its owner alone
    environment = project.path / ".env"
    environment.write_text(f"{environment.read_text()}SERVE_TOKEN={TOKEN}\nSERVE_PORT={port}\n")
    project.run("docker", "compose", "up", "--detach", "--build", "serve")
    try:
        assert ask(port)[0] == ask(port, TOKEN[:-1])[0] == 401
        status, said = ask(port, TOKEN)
        inside = (
            "docker",
            "compose",
            "run",
            "--rm",
            "--no-deps",
            "-T",
            "lab",
            "python",
            "-m",
            f"{IN_A_CONTAINER.replace('-', '_')}.predict",
        )
        (project.path / "reports/rows.csv").write_text("\n".join(",".join(map(str, row)) for row in ROWS))
        printed = project.run(*inside, "reports/rows.csv", "--json")
        assert status == 200
        assert said["predictions"] == json.loads(printed[printed.index("[\n") : printed.rindex("]") + 1])
        assert project.run("docker", "compose", "port", "serve", "8000").strip() == f"127.0.0.1:{port}"
        log = project.run("docker", "compose", "logs", "--no-color", "serve")
        assert re.search(rf"http://127\.0\.0\.1:{port}/\?token=", log)
        exec_ = ("docker", "compose", "exec", "-T", "serve", "as-owner", "sh", "-c")
        users = project.run(*exec_, "stat -c %u /proc/[0-9]*").split()
        assert users and "0" not in users
        project.run(*exec_, "! touch /project/x && ! touch /x")
        sizes = {
            name: int(project.run("docker", "image", "inspect", "--format", "{{.Size}}", name))
            for name in (IN_A_CONTAINER, f"{IN_A_CONTAINER}-serve")
        }
        print({name: f"{size / 1e6:.0f} MB" for name, size in sizes.items()})
        assert sizes[f"{IN_A_CONTAINER}-serve"] <= MOST_OF_TRAINING * sizes[IN_A_CONTAINER], sizes
    finally:
        project.path.chmod(0o755)
        project.run("docker", "compose", "rm", "--stop", "--force", "serve")
