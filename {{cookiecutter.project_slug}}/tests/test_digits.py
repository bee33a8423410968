"""What holds for the example alone: its table, its images, its networks. Replace it together with data and model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import samebits
from omegaconf import DictConfig
from PIL import Image

from .conftest import compose, module


@pytest.fixture(scope="module")
def images(cfg: DictConfig) -> np.ndarray:
    """The test split's images, uint8 (N, 8, 8)."""
    found: np.ndarray = np.load(Path(cfg.paths.processed) / "test_images.npy")
    return found


def table(path: Path, images: np.ndarray) -> Path:
    """Write images as `predict` reads them: a row of 64 pixels each."""
    np.savetxt(path, images.reshape(len(images), -1), fmt="%d", delimiter=",")
    return path


def test_every_digit_has_the_same_share_in_every_split(cfg: DictConfig) -> None:
    for split, count in {"train": 1257, "val": 270, "test": 270}.items():
        labels = np.load(Path(cfg.paths.processed) / f"{split}_labels.npy")
        assert len(labels) == count
        assert np.bincount(labels) / count == pytest.approx([0.1] * 10, abs=0.02)


def test_a_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    (tmp_path / "digits.csv.gz").write_bytes(b"not a gzip file")
    with pytest.raises(samebits.UserError, match=r"[Nn]ot a gzipped file.*adapt read_raw"):
        module("data.prepare").prepare(
            compose(tmp_path, f"paths.raw='{tmp_path}'", f"paths.processed='{tmp_path}/new'")
        )
    assert not (tmp_path / "new").exists()


def test_batches_have_the_documented_shapes(cfg: DictConfig) -> None:
    dataset = module("data.datamodule").ArrayDataset(Path(cfg.paths.processed), "train", shift=1)
    pixels, label = dataset[0]
    assert pixels.shape == (1, 8, 8) and label.shape == ()
    batch, labels = dataset.read_batch(np.arange(32))
    assert batch.shape == (32, 1, 8, 8) and str(batch.dtype) == "torch.float32" and batch.max() == 1
    assert labels.shape == (32,) and str(labels.dtype) == "torch.int64"


def test_moving_an_image_fills_with_paper(images: np.ndarray) -> None:
    batch = module("data.images").to_input(images[:2])
    moved = module("data.images").move(batch, np.array([1, 0]), np.array([0, -1]))  # one down, the other to the left
    assert (moved[0, 0, 1:] == batch[0, 0, :-1]).all() and (moved[0, 0, 0] == 0).all()
    assert (moved[1, 0, :, :-1] == batch[1, 0, :, 1:]).all() and (moved[1, 0, :, -1] == 0).all()


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_networks_give_a_score_for_each_digit(model: str, images: np.ndarray) -> None:
    settings = dict(samebits.compose([f"model={model}"]).model.network)
    network = getattr(module("models.network"), settings.pop("_target_").rpartition(".")[2])(**settings)
    assert network(module("data.images").to_input(images[:5])).shape == (5, 10)


def test_predict_reads_what_the_run_has_read(trained: Path, images: np.ndarray, tmp_path: Path) -> None:
    recorded = samebits.read_run(trained).predictions
    predicted = module("predict").predict(table(tmp_path / "digits.csv", images), trained)
    assert [each["label"] for each in predicted] == [int(each["predicted"]) for each in recorded]
    # not bit for bit: it may depend on how many images are computed at once
    probabilities = [float(each["probability"]) for each in recorded]
    assert [each["probability"] for each in predicted] == pytest.approx(probabilities, abs=1e-6)


def test_predict_reads_an_image_as_it_reads_a_row(trained: Path, images: np.ndarray, tmp_path: Path) -> None:
    predict = module("predict").predict
    row = predict(table(tmp_path / "digit.csv", images[:1]), trained)
    large = Image.fromarray((images[0] * 15.9375).astype(np.uint8)).resize((80, 80), Image.Resampling.NEAREST)
    large.save(tmp_path / "digit.png")
    Image.fromarray(255 - np.asarray(large)).save(tmp_path / "ink.png")
    assert predict(tmp_path / "digit.png", trained) == row
    assert predict(tmp_path / "ink.png", trained, invert=True) == row


def test_the_command_predicts_and_refuses_in_one_sentence(
    trained: Path,
    images: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = table(tmp_path / "digits.csv", images[:2])
    monkeypatch.setattr(sys, "argv", ["predict", str(path), "--run", str(trained), "--json"])
    module("predict").main()
    assert [each["row"] for each in json.loads(capsys.readouterr().out)] == [1, 2]
    path.write_text("1,2,3\n")
    with pytest.raises(SystemExit, match="2"):
        module("predict").main()
    assert "has 3 columns" in capsys.readouterr().err


def test_a_split_without_training_data_is_refused(tmp_path: Path) -> None:
    settings = compose(tmp_path, "data.split.test=0.9", f"paths.processed='{tmp_path}/processed'")
    with pytest.raises(samebits.UserError, match="leave no training data"):
        module("data.prepare").prepare(settings)
    assert not (tmp_path / "processed").exists()
