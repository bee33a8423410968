"""The real container: built, run by Compose, its results and its token looked at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from .conftest import IDENTITY, IN_A_CONTAINER, TOKEN, USER, Project, give
from .crates import unzip

pytestmark = pytest.mark.container


def get(port: int, path: str) -> int:
    """Ask JupyterLab, which takes a moment to start; return the status of its answer."""
    for _ in range(60):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.5)
    raise TimeoutError("JupyterLab did not answer within half a minute")


def test_it_trains_into_the_folder(served: tuple[Project, int]) -> None:
    project, _ = served
    metrics = json.loads((project.path / "models/main/metrics.json").read_text())
    assert metrics["test/accuracy"] >= 0.97
    assert "test/accuracy" in project.run("docker", "compose", "logs", "--no-color", "train")


def test_the_results_belong_to_the_caller(served: tuple[Project, int]) -> None:
    project, _ = served
    owner = project.path.stat().st_uid
    strangers = [path for path in project.path.rglob("*") if path.lstat().st_uid != owner]
    assert strangers == []


def test_no_process_is_root(served: tuple[Project, int]) -> None:
    project, _ = served
    stat = ("sh", "-c", "stat -c %u /proc/[0-9]*")
    users = project.run("docker", "compose", "exec", "-T", "lab", "as-owner", *stat).split()
    assert users and "0" not in users
    image = project.run("docker", "image", "inspect", "--format", "{{.Config.User}}", IN_A_CONTAINER)
    assert image.strip() == "1000:1000"


def test_jupyterlab_answers_with_the_token_only_and_on_this_computer_only(served: tuple[Project, int]) -> None:
    project, port = served
    assert get(port, f"/api/contents?token={TOKEN}") == 200
    assert get(port, f"/lab?token={TOKEN}") == 200
    assert get(port, "/api/contents") == 403
    assert get(port, "/api/contents?token=wrong") == 403
    published = project.run("docker", "compose", "port", "lab", "8888")
    assert published.strip() == f"127.0.0.1:{port}"


def test_the_log_ends_with_links_to_the_report_and_jupyterlab(served: tuple[Project, int]) -> None:
    project, port = served
    assert get(port, "/api") == 200
    lines = project.run("docker", "compose", "logs", "--no-color", "--no-log-prefix", "lab").split("Ctrl-C")[0]
    links = re.findall(rf"http://127\.0\.0\.1:{port}(\S+)", lines)
    assert links == [f"/reports/report.html?token={TOKEN}", f"/lab?token={TOKEN}"]
    assert [get(port, link) for link in links] == [200, 200]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{links[0].partition('?')[0]}") as answer:
        assert urllib.parse.urlsplit(answer.url).path == "/login"


def test_the_weights_are_those_of_the_host(served: tuple[Project, int], project: Project) -> None:
    def weights(folder: Path) -> set[str]:
        records = folder.glob("models/cnn-lr=0.002-seed=0-*/record.json")
        return {json.loads(record.read_text())["outputs"]["weights"] for record in records}

    inside, outside = weights(served[0].path), weights(project.path)
    assert inside and inside <= outside


def test_a_folder_of_another_user_is_named(served: tuple[Project, int]) -> None:
    project, _ = served
    output = project.run("docker", "compose", "run", "--rm", "--no-deps", "--user", "4321:4321", "train", status=2)
    assert "not writable for user 4321" in output and "make up" in output


def test_the_devcontainer_waits_for_its_editor_and_has_all_it_needs(served: tuple[Project, int]) -> None:
    project, _ = served
    files = ("docker", "compose", "-f", "compose.yaml", "-f", ".devcontainer/compose.yaml")
    lab = json.loads(project.run(*files, "config", "--format", "json"))["services"]["lab"]
    assert lab["command"] == ["sleep", "infinity"]
    assert "build" in lab  # else the editor asks a registry for the image
    assert not lab.get("depends_on") and not lab.get("ports")
    created = json.loads((project.path / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"]
    project.run(*files, "run", "--rm", "lab", "sh", "-c", f"{created} && make notebook && make train ARGS=debug=fast")


def test_a_strangers_bundle_is_reproduced_without_a_network(served: tuple[Project, int], tmp_path: Path) -> None:
    project, _ = served
    project.run("docker", "compose", "run", "--rm", "--no-deps", "train", "make", "bundle")
    (archive,) = (project.path / "dist").iterdir()
    theirs = Project(unzip(archive, tmp_path))
    if os.getuid() == 0:
        project.run("chown", "--recursive", f"{USER}:{USER}", str(theirs.path))
    alone = ("docker", "compose", "run", "--rm", "--no-deps")
    try:
        assert "\nIDENTICAL " in theirs.run(*alone, "alone")
        networks = ("find", "/sys/class/net", "-mindepth", "1", "-printf", "%f\\n")
        assert theirs.run(*alone, "alone", *networks).split("\n")[-2:] == ["lo", ""]
        assert "eth0" in project.run(*alone, "train", *networks)  # control
    finally:
        theirs.run("docker", "compose", "--profile", "alone", "down", "--rmi", "local", "--volumes")


def test_a_folder_of_root_gets_a_link_with_a_token_made_for_it(served: tuple[Project, int]) -> None:
    """Runs last: it takes the place of the server that the other tests talk to."""
    project, port = served
    env = project.path / ".env"
    before = env.read_text()
    env.write_text(f"JUPYTER_PORT={port}\n")
    owner = give(project, "0:0")
    project.run("docker", "compose", "up", "--detach", "--no-deps", "--force-recreate", "lab")
    env.write_text(before)
    assert get(port, "/api/contents") == 403
    logs = project.run("docker", "compose", "logs", "--no-color", "lab")
    link = re.search(rf"http://127\.0\.0\.1:{port}(/lab\?token=[0-9a-f]{{32,}})", logs)
    assert link and get(port, link[1]) == 200
    give(project, owner)


def test_a_stranger_reproduces_it_outside_of_the_container(served: tuple[Project, int], tmp_path: Path) -> None:
    """Another folder, another user, another HOME, another system: what the container trained, bit for bit."""
    project, _ = served
    subprocess.run(["cp", "--recursive", str(project.path), str(tmp_path / "copy")], check=True)  # owned by the caller
    copy = Project(tmp_path / "copy")
    copy.run("git", "add", "--all")
    copy.run("git", *IDENTITY, "commit", "--quiet", "--message", "Results")
    clone = Project(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(copy.path), str(clone.path)], check=True)
    (tmp_path / "home").mkdir()
    output = clone.make("reproduce", HOME=str(tmp_path / "home"))
    assert "\nIDENTICAL " in output, output
