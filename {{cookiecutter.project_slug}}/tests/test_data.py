"""The data are what their card says, and preparing them again gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import stat
from itertools import chain
from pathlib import Path

import pytest
import samebits
from omegaconf import DictConfig

from .conftest import module


def sha256(folder: Path) -> dict[str, str]:
    """Hash every file in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def rows(cfg: DictConfig) -> dict[str, list[int]]:
    """Which samples of the raw data are in which split."""
    rows: dict[str, list[int]] = json.loads((Path(cfg.paths.processed) / "dataset.json").read_text())["rows"]
    return rows


def test_raw_files_are_the_pinned_ones_and_read_only(cfg: DictConfig) -> None:
    raw = Path(cfg.paths.raw)
    assert sha256(raw) == {entry.name: entry.sha256 for entry in cfg.data.files}
    assert not any(path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) for path in raw.iterdir())


def test_the_card_says_what_is_there(cfg: DictConfig, rows: dict[str, list[int]], trained: Path) -> None:
    origin = samebits.read_run(trained).record["inputs"]["origin"]
    card = (samebits.project().root / origin["card"]).read_text()
    assert f"{sum(map(len, rows.values())):,} " in card
    assert all(entry.sha256 in card for entry in cfg.data.files)
    assert origin["title"] and origin["licence"] and origin["address"]  # the report and the model card name them


def test_splits_are_disjoint_and_complete(cfg: DictConfig, rows: dict[str, list[int]]) -> None:
    together = sorted(chain.from_iterable(rows.values()))
    assert set(rows) == {"train", "val", "test"} and all(rows.values())
    assert together == list(range(len(together)))
    assert len(rows["val"]) / len(together) == pytest.approx(cfg.data.split.val, abs=0.01)
    assert len(rows["test"]) / len(together) == pytest.approx(cfg.data.split.test, abs=0.01)


def test_preparing_again_gives_the_same_bytes(cfg: DictConfig, tmp_path: Path) -> None:
    again = samebits.compose([f"paths.processed='{tmp_path}'"])
    module("data.prepare").prepare(again)
    assert sha256(tmp_path) == sha256(Path(cfg.paths.processed))
    again.data.split.seed += 1  # control
    module("data.prepare").prepare(again)
    assert sha256(tmp_path) != sha256(Path(cfg.paths.processed))
