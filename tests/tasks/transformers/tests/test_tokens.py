"""What holds for this task alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import samebits
import torch

from .conftest import module


def test_a_sequence_is_padded_and_the_padding_changes_nothing(trained: Path) -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[0, 0, :3] = 16
    batch = module("data.images").to_input(images)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [1, 0, 0, 0]]
    model = samebits.load(trained).model()
    alone = model(module("data.images").to_input(images[1:]))
    assert torch.allclose(model(batch)[1], alone[0], atol=1e-5)
