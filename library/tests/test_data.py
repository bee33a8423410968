"""The data is the pinned one, read-only, and split the same way every time."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from .conftest import Compose
from .project import ROOT, UserError, compose, module


def digests(folder: Path) -> dict[str, str]:
    sha256: dict[str, str] = module("samebits.engine.files").files_sha256(folder, folder.iterdir())
    return sha256


def test_raw_files_are_read_only(workspace: Path) -> None:
    for path in (workspace / "data/raw").iterdir():
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def test_prepare_writes_the_same_bytes_again_in_blocks_of_any_size(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = compose([f'paths.root="{workspace}"', f'paths.processed="{tmp_path}"'])
    monkeypatch.setattr(module("dummy.data.prepare"), "BLOCK", 100)
    module("dummy.data.prepare").prepare(cfg)
    assert digests(tmp_path) == digests(workspace / "data/processed")
    cfg.data.split.seed = 1  # negative control
    module("dummy.data.prepare").prepare(cfg)
    assert digests(tmp_path) != digests(workspace / "data/processed")


def test_splits_are_disjoint_complete_and_stratified(workspace: Path) -> None:
    processed = workspace / "data/processed"
    rows = json.loads((processed / "dataset.json").read_text())["rows"]
    assert sorted(row for part in rows.values() for row in part) == list(range(1797))
    for name in ("train", "val", "test"):
        share = np.bincount(np.load(processed / f"{name}_labels.npy")) / len(rows[name])
        assert share == pytest.approx(0.1, abs=0.02)


def test_batches_have_the_documented_shapes(settings: Compose) -> None:
    datamodule = module("samebits.engine.config").instantiate(settings(), "data.module")
    images, labels = next(iter(datamodule.train_dataloader()))
    assert images.shape == (32, 1, 8, 8) and str(images.dtype) == "torch.float32"
    assert images.min() >= 0 and images.max() == 1
    assert labels.shape == (32,) and str(labels.dtype) == "torch.int64"
    single, _ = datamodule.train_dataloader().dataset.dataset[0]
    assert single.shape == (1, 8, 8)


def fetch(tmp_path: Path, uri: str, sha256: str) -> None:
    cfg = compose([f'paths.raw="{tmp_path}/raw"'])
    cfg.data.files = [{"uri": uri, "name": "file.csv", "sha256": sha256}]
    module("samebits.fetch").fetch(cfg)


def test_a_local_file_is_fetched_and_a_changed_one_refused(tmp_path: Path) -> None:
    source = tmp_path / "a file.csv"
    source.write_text("1,2\n")
    sha256 = module("samebits.engine.files").file_sha256(source)
    fetch(tmp_path, source.as_uri(), sha256)
    kept = tmp_path / "raw/file.csv"
    assert kept.read_text() == "1,2\n"

    source.write_text("1,3\n")
    fetch(tmp_path, source.as_uri(), sha256)  # what is there is the pinned file, so nothing is fetched
    kept.chmod(0o644)
    kept.write_text("edited")
    with pytest.raises(UserError, match=sha256):  # now it must be fetched, and the source is another file
        fetch(tmp_path, source.as_uri(), sha256)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["file.csv"]


def test_a_folder_arrives_as_one_zip_whose_bytes_follow_from_its_files(tmp_path: Path) -> None:
    folder, kept = tmp_path / "images", tmp_path / "raw/file.csv"
    names = ["a cat/1.png", "dogs/10.png", "dogs/2.png"]
    for name in reversed(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    with pytest.raises(UserError, match=r'not pinned: .* write sha256: "[0-9a-f]{64}"') as refused:
        fetch(tmp_path, folder.as_uri(), "")
    sha256 = str(refused.value).split('"')[1]
    (folder / ".DS_Store").write_text("what a desktop leaves")
    os.utime(folder / names[0], (0, 0))
    (folder / names[0]).chmod(0o600)
    fetch(tmp_path, folder.as_uri(), sha256)
    with zipfile.ZipFile(kept) as archive:
        assert archive.namelist() == names and archive.read(names[0]) == names[0].encode()
    kept.unlink()
    (folder / names[0]).write_text("edited")
    with pytest.raises(UserError, match=f"pins {sha256}"):
        fetch(tmp_path, folder.as_uri(), sha256)


def test_a_doi_goes_to_the_downloader_for_dois(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the network: what is asked of pooch, and what becomes of its answer."""
    import pooch

    uri = "doi:10.5281/zenodo.1/file.csv"
    assert type(pooch.core.choose_downloader(uri)) is pooch.DOIDownloader

    def download(self: pooch.DOIDownloader, url: str, output_file: str, pooch: None) -> None:
        assert url == uri
        Path(output_file).write_text("1,2\n")

    monkeypatch.setattr(pooch.DOIDownloader, "__call__", download)
    fetch(tmp_path, uri, hashlib.sha256(b"1,2\n").hexdigest())
    assert (tmp_path / "raw/file.csv").read_text() == "1,2\n"


def test_what_another_configuration_fetched_is_removed_and_what_is_yours_is_not(tmp_path: Path) -> None:
    source = tmp_path / "file.csv"
    source.write_text("1,2\n")
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "old.csv").write_text("fetched")
    (raw / "old.csv").chmod(0o444)
    (raw / ".fetching-killed").mkdir()
    sha256 = module("samebits.engine.files").file_sha256(source)
    fetch(tmp_path, source.as_uri(), sha256)
    assert [path.name for path in raw.iterdir()] == ["file.csv"]
    (raw / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes.txt is not named in configs/data/"):
        fetch(tmp_path, source.as_uri(), sha256)
    assert (raw / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("uri", ["file:data/README.md", "file://data/README.md", (ROOT / "data/README.md").as_uri()])
def test_a_file_of_the_project_is_fetched_by_its_path_in_it(uri: str, tmp_path: Path) -> None:
    fetch(tmp_path, uri, hashlib.sha256((ROOT / "data/README.md").read_bytes()).hexdigest())


def test_a_fetched_file_that_was_made_writable_is_still_known(tmp_path: Path) -> None:
    """DVC does that before it runs a stage again, as after another choice of `data:`."""
    for name in ("one", "other"):
        (tmp_path / name).write_text(f"{tmp_path} {name}")  # which no config pins
        sha256 = module("samebits.engine.files").file_sha256(tmp_path / name)
        cfg = compose([f'paths.raw="{tmp_path}/raw"'])
        cfg.data.files = [{"uri": (tmp_path / name).as_uri(), "name": f"{name}.csv", "sha256": sha256}]
        module("samebits.fetch").fetch(cfg)
        (tmp_path / f"raw/{name}.csv").chmod(0o644)
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["other.csv"]
    fetch(tmp_path, (tmp_path / "one").as_uri(), hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest())
    (tmp_path / "raw/digits.csv.gz").write_bytes(b"another file than the pinned one, of its name")  # control
    with pytest.raises(UserError, match=r"digits.csv.gz is not named"):
        fetch(tmp_path, (tmp_path / "one").as_uri(), hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest())


@pytest.mark.parametrize(
    "uri",
    [
        "pkg://sklearn/datasets/data/no-such-file.csv",
        "pkg://no_such_package/file.csv",
        "file:///no/such/file.csv",
        "https://127.0.0.1:9/file.csv",
        "ftp://example.org/file.csv",
        "file.csv",
    ],
)
def test_an_address_that_cannot_be_read_is_named_and_leaves_nothing(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be fetched") as error:
        fetch(tmp_path, uri, "0" * 64)
    mend = "make pull" if uri.startswith("file:") else "network"
    assert [word for word in ("make pull", "network") if word in str(error.value)] == [mend]
    assert list((tmp_path / "raw").iterdir()) == []


def test_missing_and_outdated_data_are_refused(settings: Compose, tmp_path: Path) -> None:
    require = module("samebits.engine.inputs").require_prepared
    require(settings())
    with pytest.raises(UserError, match="missing: run `make data`"):
        require(settings(f'paths.processed="{tmp_path}"'))
    with pytest.raises(UserError, match="split"):
        require(settings("data.split.seed=1"))
    nothing = tmp_path / "processed"
    with pytest.raises(UserError, match="missing: run `make data`"):
        module("dummy.data.prepare").prepare(settings(f'paths.raw="{tmp_path}"', f'paths.processed="{nothing}"'))
    with pytest.raises(UserError, match="leave no training data"):
        module("dummy.data.prepare").prepare(settings(f'paths.processed="{nothing}"', "data.split.test=0.9"))
    assert not nothing.exists()


def test_a_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.gz"
    path.write_bytes(b"not gzip")
    with pytest.raises(UserError, match="is not a table"):
        list(module("dummy.data.prepare").read_table(path))


def test_validation_and_test_have_batches_of_their_own_size(workspace: Path) -> None:
    def sizes(eval_batch_size: int | None) -> set[int]:
        made = module("dummy.data.datamodule").ArrayDataModule(
            directory=str(workspace / "data/processed"), batch_size=32, seed=0, eval_batch_size=eval_batch_size
        )
        return {len(next(iter(loader))[1]) for loader in (made.val_dataloader(), made.test_dataloader())}

    assert sizes(100) == {100} and sizes(None) == {32}
