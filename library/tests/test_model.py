"""The network has the documented shapes, and it learns."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from .project import compose, module


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_scores_have_the_documented_shape(model: str) -> None:
    classifier = module("samebits.engine.config").instantiate(compose([f"model={model}"]), "model")
    scores = classifier(torch.rand(5, 1, 8, 8))
    assert scores.shape == (5, 10) and scores.dtype == torch.float32


def test_the_loss_falls_on_a_batch_seen_often() -> None:
    torch.manual_seed(0)
    classifier = module("samebits.engine.config").instantiate(compose(), "model")
    images, labels = torch.rand(16, 1, 8, 8), torch.arange(16) % 10
    optimizer = classifier.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(60):
        loss = classifier.loss(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_weights_are_compared_by_content() -> None:
    def digest(tensors: dict[str, torch.Tensor]) -> str:
        whole, each = module("samebits.engine.weights").digests(
            save({name: x.contiguous() for name, x in tensors.items()})
        )
        assert set(each) == set(tensors)
        return str(whole)

    weights = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor(2.0, dtype=torch.bfloat16)}
    assert digest(weights) == digest(dict(reversed(weights.items())))
    assert digest(weights) != digest(weights | {"a": torch.tensor([-0.0, 1.0])})
    assert digest(weights) != digest(weights | {"a": torch.tensor([[0.0, 1.0]])})
    assert digest(weights) != digest(weights | {"b": torch.tensor(2.0, dtype=torch.float16)})
