"""MLflow's server in a container, and Binder's image: built on what the other containers' tests have built."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import IN_A_CONTAINER, Project, free_port

pytestmark = pytest.mark.container


@dataclass(frozen=True)
class Server:
    """MLflow's server, and the password that it printed."""

    project: Project
    port: int
    password: str

    def ask(self, path: str, password: str | None = None, host: str = "", **body: Any) -> tuple[int, Any]:
        """Ask its REST API; return status and answer."""
        words = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
        if password:
            words["Authorization"] = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()
        address = f"http://127.0.0.1:{self.port}/api/2.0/mlflow/{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, json.dumps(body).encode(), words)) as answer:
                return int(answer.status), json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, None


@pytest.fixture(scope="module")
def tracking(served: tuple[Project, int]) -> Iterator[Server]:
    """Start the server beside the others; it takes some seconds to answer."""
    project, _ = served
    project.run("docker", "compose", "up", "--detach", "--build", "tracking")
    log = project.run("docker", "compose", "logs", "--no-color", "tracking")
    port = int(project.run("docker", "compose", "port", "tracking", "5000").strip().removeprefix("127.0.0.1:"))
    for _ in range(120):
        log = project.run("docker", "compose", "logs", "--no-color", "tracking")
        if "startup complete" in log:
            break
        time.sleep(0.5)
    link = re.search(r"MLflow:  http://127\.0\.0\.1:(\d+)  \(user admin, password (\S+)\)", log)
    assert link and int(link[1]) == port, log
    yield Server(project, port, link[2])


def test_it_answers_with_the_password_only_and_to_its_names_only(tracking: Server) -> None:
    assert tracking.ask("experiments/search", max_results=9)[0] == 401
    assert tracking.ask("experiments/search", "another password", max_results=9)[0] == 401
    assert tracking.ask("experiments/search", tracking.password, max_results=9)[0] == 200
    assert tracking.ask("experiments/search", tracking.password, "evil.example", max_results=9)[0] == 403


def test_it_shows_runs_written_to_its_file_and_runs_sent_to_it(tracking: Server) -> None:
    run = ("docker", "compose", "run", "--rm", "--no-deps")
    tracking.project.run(*run, "tracking", "make", "train", "ARGS=debug=fast logger=mlflow seed=1")
    tracking.project.run(
        *run,
        *("tracking", "make", "train", "ARGS=debug=fast logger=mlflow seed=2"),
        MLFLOW_TRACKING_URI="http://tracking:5000",
        MLFLOW_TRACKING_USERNAME="admin",
        MLFLOW_TRACKING_PASSWORD=tracking.password,
    )
    _, found = tracking.ask("experiments/search", tracking.password, max_results=9)
    ids = {each["name"]: each["experiment_id"] for each in found["experiments"]}
    _, found = tracking.ask("runs/search", tracking.password, experiment_ids=[ids[IN_A_CONTAINER]])
    shown = {each["info"]["run_name"]: each["info"]["status"] for each in found["runs"]}
    assert shown == {f"debug-fast-cnn-seed={seed}": "FINISHED" for seed in (1, 2)}
    everything = [path.read_text() for path in tracking.project.path.glob("models/debug-*/*.[jy]*")]
    assert everything and not any(tracking.password in text for text in everything)


def test_a_short_password_is_refused_in_a_sentence(tracking: Server) -> None:
    words = ("docker", "compose", "run", "--rm", "--no-deps", "--env", "MLFLOW_TRACKING_PASSWORD=short", "tracking")
    assert "make it longer" in tracking.project.run(*words, status=2)


def test_binder_opens_the_notebooks(served: tuple[Project, int], tmp_path: Path) -> None:
    """Built from a clone, as Binder does, but on the image with the packages, whose installation is tested there."""
    subprocess.run(["cp", "--recursive", str(served[0].path), str(tmp_path / "copy")], check=True)  # the caller's now
    clone = Project(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(tmp_path / "copy"), str(clone.path)], check=True)
    chosen = ("NB_USER=jovyan", "NB_UID=1357", f"BASE_IMAGE={IN_A_CONTAINER}")
    user = [f"--build-arg={each}" for each in chosen]
    clone.run("docker", "buildx", "build", "--file", ".binder/Dockerfile", "--tag", "binder-of-a-test", *user, ".")
    port = free_port()
    server = ("jupyter-lab", "--ip=0.0.0.0", "--port=8888", "--NotebookApp.base_url=/user/x/", "--NotebookApp.token=t")
    published = f"127.0.0.1:{port}:8888"
    clone.run(
        "docker", "run", "--detach", "--name", "binder-of-a-test", "--publish", published, "binder-of-a-test", *server
    )
    try:
        for _ in range(60):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/user/x/api/contents?token=t") as answer:
                    assert "notebooks" in {each["name"] for each in json.load(answer)["content"]}
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise TimeoutError("JupyterLab did not answer within half a minute")
        inside = ("docker", "exec", "binder-of-a-test", "sh", "-c")
        assert clone.run(*inside, "id -u").strip() == "1357"
        assert clone.run(*inside, "git status --porcelain").split("\n")[:-1] == ["?? dvc.lock"]
        clone.run(*inside, "make notebook")
    finally:
        clone.run("docker", "rm", "--force", "binder-of-a-test")
        clone.run("docker", "rmi", "--force", "binder-of-a-test")
