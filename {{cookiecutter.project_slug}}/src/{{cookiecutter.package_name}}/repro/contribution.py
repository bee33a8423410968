"""What a shard adds to a step, as one vector: it is added up, and sent to other processes, as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch

WISHES = 2  # that any process may have for all: to leave, to save
CAPACITY = 64  # numbers that a step may log; a fixed one, as a process without samples cannot know how many there are


class Layout:
    """Says where things stand in the vector.

    First come the gradients, in the bits of their own type, then numbers of 64 bits: the loss, wishes, what was logged,
    which parameters were used, what the model carries on.

    Args:
        parameters: that are trained.
        carried: how many numbers the model carries on.
        device: of the vector.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], carried: int, device: torch.device) -> None:
        self.parameters = list(parameters)
        self.device = device
        double = any(each.dtype == torch.float64 for each in parameters)
        self.kind = torch.float64 if double else torch.float32
        self.length = sum(each.numel() for each in parameters)
        self.words = -(-self.length * self.kind.itemsize // 8)
        self.sizes = [1, WISHES, CAPACITY, len(parameters), carried]

    def empty(self) -> torch.Tensor:
        """Make the vector of a shard without samples: float64 (words + numbers,), zeros."""
        return torch.zeros(self.words + sum(self.sizes), dtype=torch.float64, device=self.device)

    def gradients(self, row: torch.Tensor) -> torch.Tensor:
        """View the gradients in a vector: of their own type, (length,)."""
        return row[: self.words].view(self.kind)[: self.length]

    def numbers(self, row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """View loss (1,), wishes (WISHES,), logged (CAPACITY,), used (P,), carried: float64."""
        return row[self.words :].split(self.sizes)

    def take_gradients(self, row: torch.Tensor) -> None:
        """Move the parameters' gradients into a vector; those that were not used count as zeros."""
        flat = [torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters]
        self.gradients(row)[:] = torch.cat([each.reshape(-1).to(self.kind) for each in flat])
        used = [each.grad is not None for each in self.parameters]
        self.numbers(row)[3][:] = torch.tensor(used, dtype=torch.float64)
        for each in self.parameters:
            each.grad = None

    def give_gradients(self, row: torch.Tensor) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
        """Cut the gradients out of a vector, for each parameter that any shard has used."""
        parts = self.gradients(row).split([each.numel() for each in self.parameters])
        used = self.numbers(row)[3].tolist()
        return [
            (each, part.view_as(each).to(each.dtype))
            for each, part, uses in zip(self.parameters, parts, used, strict=True)
            if uses
        ]

    def add(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Add the second vector to the first."""
        self.gradients(left).add_(self.gradients(right))
        left[self.words :].add_(right[self.words :])
        return left
