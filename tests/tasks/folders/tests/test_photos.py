"""What holds for this task alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import samebits
from omegaconf import DictConfig
from PIL import Image

from .conftest import compose, module


def test_an_image_in_a_folder_of_another_name_is_refused(cfg: DictConfig, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / cfg.data.files[0].name, "w") as archive:
        archive.writestr("ten/1.png", b"")
    with pytest.raises(samebits.UserError, match=r"ten/1.png is in no folder of zero, one, "):
        module("data.prepare").prepare(compose(tmp_path, f"paths.raw='{tmp_path}'"))


def test_predict_gives_what_the_run_has_given(cfg: DictConfig, trained: Path, tmp_path: Path) -> None:
    images = np.load(Path(cfg.paths.processed) / "test_images.npy")
    for image, row in zip(images[:5], samebits.read_run(trained).predictions, strict=False):
        Image.fromarray(image).save(tmp_path / "image.png")
        (found,) = module("predict").predict(tmp_path / "image.png", trained)
        assert found["probability"] == pytest.approx(float(row["probability"]), abs=1e-6)
