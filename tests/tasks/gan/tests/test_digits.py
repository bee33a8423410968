"""What holds for this task alone: the images that are generated."""

from __future__ import annotations

from pathlib import Path

from .conftest import module


def test_images_follow_from_weights_and_seed(trained: Path) -> None:
    predict = module("predict").predict
    images = predict(20, 1, trained)
    assert images.shape == (20, 8, 8) and 0 <= images.min() < images.max() <= 1
    assert (predict(20, 1, trained) == images).all() and not (predict(20, 2, trained) == images).all()
