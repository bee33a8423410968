"""From a fresh project to a page: seeds, a sweep that is killed, the report, how it looks, and new data."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Project, fresh

pytestmark = pytest.mark.project

SWEEP = ("sweep", "SEEDS=0..4", "ARGS=trainer.max_epochs=8 model.optimizer.lr=0.005")
SAME = ("report.html", "results.csv", "results.tex")  # and the figures: the same bytes for the same results
WIDTHS = (390, 1280)  # pixels of a phone's and of a laptop's window


@pytest.fixture(scope="module")
def swept(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Train five seeds, and write the report."""
    made = fresh(project, tmp_path_factory.mktemp("swept"))
    output = made.make(*SWEEP)
    assert "5 of 5 runs finished" in output
    assert "5 seeds, test/accuracy 0." in made.make("report")
    return made


def same_files(project: Project) -> dict[str, bytes]:
    folder = project.path / "reports"
    paths = [*(folder / name for name in SAME), *sorted((folder / "figures").glob("*.*g"))]
    return {path.name: path.read_bytes() for path in paths}


def test_two_builds_are_the_same_to_the_byte(swept: Project) -> None:
    before = same_files(swept)
    assert len(before) == len(SAME) + 2 * 6
    shutil.rmtree(swept.path / "reports/figures")
    swept.make("report")
    assert same_files(swept) == before
    runs = [*(swept.path / "models").glob("cnn-lr=0.005-seed=?-*")]
    assert len(runs) == 5 and all(run.name in before["report.html"].decode() for run in runs)


def test_a_killed_sweep_goes_on_to_the_same_report(swept: Project, tmp_path: Path) -> None:
    """SIGKILL for the sweep, at an instant when one run is finished and another one is not; those go with it."""
    again = fresh(swept, tmp_path)
    again.make("data")
    models = again.path / "models"
    with subprocess.Popen(
        ["make", *SWEEP, "JOBS=2"], cwd=again.path, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        until = time.monotonic() + 300
        while not list(models.glob("*/metrics.json")) or not list(models.glob("*/compute.json")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    finished = {path: path.stat().st_mtime_ns for path in models.glob("*/metrics.json")}
    assert 0 < len(finished) < 5
    output = again.make(*SWEEP)
    assert output.count("was finished") == len(finished) and "5 of 5 runs finished" in output
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in models.glob("*/metrics.json")}.items()
    again.make("report")
    assert same_files(again) == same_files(swept)


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_weights_swapped_between_two_runs_are_refused(swept: Project) -> None:
    one, other = sorted((swept.path / "models").glob("cnn-lr=0.005-seed=[01]-*"))
    before = same_files(swept)
    swap(one / "model.safetensors", other / "model.safetensors")
    output = swept.make("report", status=2)
    swap(one / "model.safetensors", other / "model.safetensors")
    assert f"{one.name}: model.safetensors is that of the run {other.name}" in output
    assert f"{other.name}: model.safetensors is that of the run {one.name}" in output
    assert "Traceback" not in output and same_files(swept) == before
    swept.make("report")


def chromium() -> str:
    """Find the browser; skip without one, but fail where it must be there."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and os.environ.get("REQUIRE_CHROMIUM"):
        pytest.fail("REQUIRE_CHROMIUM is set, but there is no Chromium")
    return found or pytest.skip("there is no Chromium")


def overflow(page: Path, width: int, folder: Path) -> int:
    """Say by how many pixels a page is wider than a window, as Chromium lays it out."""
    frame = folder / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="{page.as_uri()}" style="border:0;width:{width}px;height:900px"></iframe>'
        "<script>onload=()=>{const d=document.getElementById('f').contentDocument.documentElement;"
        "document.title='overflow '+(d.scrollWidth-d.clientWidth)}</script>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    words = [chromium(), *options, f"--user-data-dir={folder / 'profile'}", frame.as_uri()]
    dump = subprocess.run(words, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>overflow (-?\d+)</title>", dump)
    assert found, dump[-2000:]
    return int(found[1])


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(swept: Project, tmp_path: Path, width: int) -> None:
    page = swept.path / "reports/report.html"
    assert overflow(page, width, tmp_path) == 0
    wide = page.with_name("wide.html")  # the check can fail
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())  # it allows no such style
    wide.write_text(text.replace("</header>", '<div style="width:2000px">wide</div></header>'))
    assert overflow(wide, width, tmp_path) > 500
    wide.unlink()


def test_the_same_procedure_on_new_data(swept: Project, tmp_path: Path) -> None:
    table = gzip.decompress((swept.path / "data/raw/digits/digits.csv.gz").read_bytes()).decode().splitlines()
    new = gzip.compress("\n".join(table[::2]).encode(), mtime=0)
    (tmp_path / "half.csv.gz").write_bytes(new)
    text = (swept.path / "configs/data/digits.yaml").read_text().replace("name: digits\n", "name: half\n")
    text = re.sub(r"uri: \S+", f"uri: '{(tmp_path / 'half.csv.gz').as_uri()}'", text)
    config = swept.path / "configs/data/half.yaml"
    config.write_text(re.sub(r'sha256: "\w+"', f'sha256: "{hashlib.sha256(new).hexdigest()}"', text))
    output = swept.make("replicate", "DATA=half", "SEEDS=0,1")
    table_of_both = (swept.path / "reports/replication-half.md").read_text()
    assert (
        "| test/accuracy | 0." in table_of_both and "half: digits.csv.gz" in table_of_both and table_of_both in output
    )
    assert len(list((swept.path / "models").glob("half-cnn-lr=0.002-seed=?-*"))) == 2
    (network,) = swept.path.glob("src/*/models/network.py")
    content = network.read_text()
    network.write_text(f"{content}\n# another procedure\n")
    refused = swept.make("replicate", "DATA=half", status=2)
    network.write_text(content)
    assert "the procedure here is not that of" in refused and "network.py is another one" in refused
