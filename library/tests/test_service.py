"""The service: the bits of predict.py, the run's name on each answer, what it refuses, at the start and when asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from .attack import Attack, chosen
from .attacks_requests import CASES, picture
from .browser import opened
from .project import NAME, ROOT, command, module
from .served import ROWS, about, expected, served, start, trained

TOKEN = "a-token-of-my-own,+1"


def rows(number: int) -> bytes:
    return b"\n".join(ROWS.splitlines()[: number or None])


@pytest.mark.parametrize("case", chosen(CASES, CASES), ids=str)
def test_an_attack_fails(case: Attack, tmp_path: Path) -> None:
    case.check(tmp_path)


def test_attacks_succeed_where_nothing_stands_against_them(tmp_path: Path) -> None:
    """The control of those above, in a server without its guard and a process that predicts without its limits."""
    lost = "\nimport sys\nsys.modules['__main__'].restrict = lambda: None\n"
    project = project_with(tmp_path / "project", (ROOT / f"src/{NAME}/predict.py").read_text() + lost)
    open_ = "import samebits.service.guard as g\ng.Guard.refused = lambda *words: None"
    path = os.pathsep.join([str(project / "src"), str(ROOT.parents[1] / "src")])
    service = start(trained(), "--megabytes=9", project=project, change=open_, PYTHONPATH=path)
    weak = {
        "file: a rare kind of image": 200,
        "file: a PNG with 20 million pixels": 200,
        "JSON: more than is read": 200,
        "from: another name": 200,
        "from: a page from elsewhere": 200,
    }
    for case in CASES:
        if case.name in weak:
            send, statuses = case.check.args
            status = send(service).status
            assert status == weak.pop(case.name) and (status not in statuses), case
    assert not weak
    service.stop()


def test_answers_have_the_bits_of_predict() -> None:
    """By a file and by JSON, alone and with seven others at once."""
    wanted = {**about(), "predictions": expected()}
    assert served().predict("anything.csv", ROWS).json == wanted
    numbers = [[int(word) for word in line.split(b",")] for line in ROWS.splitlines()]
    for body in ({"rows": numbers}, {"rows": [[float(each) for each in row] for row in numbers], "invert": False}):
        sent = json.dumps(body).encode()
        assert served().ask("POST", "/predict", sent, {"Content-Type": "application/json"}).json == wanted
    with ThreadPoolExecutor(8) as pool:
        alone = [served().predict("a.csv", rows(1 + number)).json for number in range(5)]
        again = list(pool.map(lambda number: served().predict("a.csv", rows(1 + number % 5)).json, range(40)))
    assert again == alone * 8 and alone[-1] == wanted


def test_the_bits_are_those_of_the_batch(tmp_path: Path) -> None:
    """What the comparison above would see: a sample computed together with others has other bits."""
    together = [each["probability"] for each in expected()]
    alone = [served().predict("a.csv", line).json["predictions"][0]["probability"] for line in ROWS.splitlines()]
    assert together != alone and together == pytest.approx(alone, abs=1e-5)


def test_options_are_those_of_predict(tmp_path: Path) -> None:
    dark = b"\n".join(b",".join(b"%d" % (16 - int(word)) for word in line.split(b",")) for line in ROWS.splitlines())
    assert served().predict("a.csv", dark, invert="true").json["predictions"] == expected()
    assert served().predict("a.csv", dark).json["predictions"] != expected()
    assert served().predict("a.png", picture("PNG", 32)).status == 200


def test_every_answer_says_by_which_weights() -> None:
    for path, status in (("/", 200), ("/docs", 200), ("/openapi.json", 200), ("/health", 200), ("/nothing", 404)):
        reply = served().ask("GET", path)
        assert reply.status == status
        assert (reply.headers["x-run"], reply.headers["x-weights"]) == (about()["run"], about()["weights"])
    assert served().ask("GET", "/health").json == {"status": "ok", **about()}


def test_pages_load_nothing_from_elsewhere() -> None:
    for path in ("/", "/docs"):
        reply = served().ask("GET", path)
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert not re.search(r"(?:src|href)=\"(?!docs\")|@import|url\(", reply.text)
        assert about()["weights"] in reply.text


def test_who_has_no_token_is_refused() -> None:
    """At another address than this computer's own, and here where one is set."""
    for words, variables in ((["--host=0.0.0.0"], {}), ([], {"SERVE_TOKEN": TOKEN})):
        service = start(trained(), *words, **variables)
        token = TOKEN if variables else service.token
        assert len(token) >= 20
        bearer = {"Authorization": f"Bearer {token}"}
        wrong = (
            {},
            {"Authorization": f"Bearer {token[:-1]}"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": ""},
        )
        for path in ("/", "/docs", "/openapi.json", "/nothing", f"/?token={token[:-1]}"):
            assert [service.ask("GET", path, None, each).status for each in wrong] == [401] * 4
        assert {service.ask("POST", "/predict", b"", each).status for each in wrong} == {401}
        assert service.ask("POST", f"/predict?token={quote(token)}", b"{}").status == 401  # in addresses of pages alone
        assert service.ask("GET", f"/?token={quote(token)}").status == 200
        assert service.ask("GET", "/docs", None, bearer).status == service.ask("GET", "/health").status == 200
        assert service.ask("POST", "/predict", b"{}", bearer | {"Content-Type": "application/json"}).status == 422
        service.stop()


def test_a_short_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_TOKEN", "guess me")
    done = command("serve", str(trained()))
    assert done.returncode == 2 and "fewer than 16 characters" in done.stderr


def change_weights(run: Path) -> None:
    path = run / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def change_record(run: Path) -> None:
    path = run / "record.json"
    path.write_text(path.read_text().replace(about()["weights"], "0" * 64))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_weights, "was edited after it was trained"),
        (change_record, "was edited after it was trained"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
        (lambda run: (run / "record.json").unlink(), "record.json"),
        (lambda run: (run / "config.yaml").write_text("a: 1\n"), "was edited after it was trained"),
    ],
)
def test_a_run_that_was_edited_is_not_served(change: Any, said: str, tmp_path: Path) -> None:
    run = tmp_path / trained().name
    shutil.copytree(trained(), run)
    change(run)
    done = command("serve", str(run), "--port=0")
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


def project_with(folder: Path, predict: str) -> Path:
    """Copy the dummy project, with another predict.py."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("__pycache__", "raw", "processed"))
    (folder / f"src/{NAME}/predict.py").write_text(predict)
    return folder


STRANGE = """
import os, random, time
from pathlib import Path
import samebits
FILE = "a text"
def predict(path: Path, run: Path | None = None, seconds: float = 0.0, masks: Path | None = None, name: str = "x"):
    model = samebits.load(run).model()
    print("this is no answer")
    text = path.read_text()
    time.sleep(seconds)
    if text == "die":
        os._exit(3)
    if text == "raise":
        raise LookupError(f"{path} has a secret")
    if text == "nan":
        return float("nan")
    if text == "much":
        return "x" * 2**27
    if text == "memory":
        bytearray(2**40)
    return {"text": text, "process": os.getpid()}
"""


def test_what_goes_wrong_in_a_project_ends_nothing(tmp_path: Path) -> None:
    project = project_with(tmp_path / "project", STRANGE)
    path = os.pathsep.join([str(project / "src"), str(ROOT.parents[1] / "src")])
    run = shutil.copytree(trained(), tmp_path / trained().name)
    service = start(run, project=project, PYTHONPATH=path)

    def ask(text: str, **fields: str) -> Any:
        reply = service.predict("a.txt", text.encode(), **fields)
        said = reply.json
        assert "secret" not in reply.text and "Traceback" not in reply.text and "serve-" not in reply.text
        return reply.status, said.get("predictions", said.get("error"))

    _, first = ask("x")
    assert ask("x") == (200, first), "it is the same process"
    assert ask("raise") == (422, "a.txt could not be used (LookupError).")
    assert ask("nan")[0] == ask("memory")[0] == 422
    assert ask("x", masks="/tmp")[0] == ask("x", name="/etc")[0] == 422, "a file could be named by them"
    assert ask("x") == (200, first), "it is the same process"
    for text, fields in (("die", {}), ("much", {}), ("x", {"seconds": "60"})):
        begin = time.monotonic()
        assert ask(text, **fields)[0] == 503 and time.monotonic() - begin < 40
        status, found = ask("x")
        assert status == 200 and found["process"] != first["process"]
        first = found
    change_weights(run)  # as another training would
    assert ask("x") == (200, first), "what is loaded stays"
    assert ask("die")[0] == 503 and ask("x")[0] == 503 and ask("x")[1].endswith("start the service again.")
    printed = service.stop()
    assert "this is no answer" in printed and "a secret" in printed


def test_its_description_holds(tmp_path: Path) -> None:
    """Schemathesis asks what it can think of. That the file or the rows fit the model, no description says."""
    words = ["run", f"http://127.0.0.1:{served().port}/openapi.json", "--max-examples=40", "--seed=1"]
    options = ["--exclude-checks=positive_data_acceptance", "--no-color"]
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run([program, *words, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Tested: 2" in done.stdout, done.stdout[-3000:]


def test_what_is_not_needed_is_told(tmp_path: Path) -> None:
    needed = module("samebits.service.needed").needed
    text = '[project.optional-dependencies]\nserve = ["fastapi", "pillow"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    found = needed(tmp_path)
    assert {"samebits", "torch", "pytorch-lightning", "safetensors", "fastapi", "starlette", "pillow"} <= found
    assert not {"dvc", "jupyterlab", "matplotlib", "scikit-learn", "pytest", "mypy"} & found
    (tmp_path / "pyproject.toml").write_text(text.replace("pillow", "scikit-learn"))
    assert {"scikit-learn", "scipy"} <= needed(tmp_path) and "pillow" not in needed(tmp_path)


def test_the_page_predicts_in_a_browser(tmp_path: Path) -> None:
    """A file is chosen, and its predictions appear; the page's policy is heeded, and nobody else is asked."""
    with opened(served().link, tmp_path / "profile") as page:
        text = json.dumps(ROWS.decode())
        choose = f"""(() => {{
            const files = new DataTransfer();
            files.items.add(new File([{text}], "rows.csv"));
            document.forms[0].elements.file.files = files.files;
            document.forms[0].requestSubmit();
        }})()"""
        page.run(choose)
        page.wait("document.querySelectorAll('#answer td').length == 15")
        cells = page.run("[...document.querySelectorAll('#answer td')].map(each => each.textContent)")
        assert cells == [str(value) for row in expected() for value in row.values()]
        page.run(choose.replace(text, '"x"'))
        said = page.wait("document.querySelector('#answer .error')?.textContent")
        assert said.startswith("rows.csv is neither an image nor a CSV file")
        page.run(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.planted = 1'}))"
        )
        assert page.run("window.planted") is None, "the policy has no effect"
        asked = [
            each["params"]["request"]["url"]
            for each in page.events
            if each.get("method") == "Network.requestWillBeSent"
        ]
        assert asked and all(each.startswith(served().link) for each in asked if not each.startswith("about:")), asked
        for width in (360, 1200):
            page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
            assert page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
