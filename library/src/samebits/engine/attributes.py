"""State that programs keep in plain attributes, outside of `state_dict`: found, saved and put back."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics import Metric

from .errors import UserError
from .fingerprint import add_tensors

Attribute = tuple[str, str]  # of an object, by their names
LARGEST = 2**26  # bytes of an array that is no data


# of an encoded value; a checkpoint is loaded without running code, so it holds tensors, numbers, texts and lists alone
Encoded = list[Any]
KINDS: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}


class NotPlain(Exception):
    """A value is none that can be written as tensors, numbers and texts."""


def encode(value: Any) -> Encoded:
    """Write a value as lists of tensors, numbers and texts.

    Raises:
        NotPlain: it, or something in it, is of another kind.
    """
    if _is_simple(value):
        return ["value", value]
    if type(value) in (list, tuple) and all(map(_is_simple, value)):
        return ["value", value[:]]
    if type(value) is dict and all(map(_is_simple, (*value, *value.values()))):
        return ["value", value.copy()]
    if isinstance(value, torch.Tensor):
        return ["tensor", value.detach().cpu(), value.requires_grad and value.is_leaf]
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufc":
        return ["array", torch.from_numpy(np.array(value)), isinstance(value, np.generic)]
    if type(value) in KINDS:
        inner = [encode(each) for each in value]
        return [KINDS[type(value)], sorted(inner, key=repr) if isinstance(value, set | frozenset) else inner]
    if isinstance(value, deque):
        return ["deque", [encode(each) for each in value], value.maxlen]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(item)] for key, item in value.items()]]
    if isinstance(value, Metric):
        return ["metric", encode(metric_state(value))]
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return ["stateful", encode(value.state_dict())]
    raise NotPlain(type(value).__name__)


def _is_simple(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def decode(encoded: Encoded, now: Any = None) -> Any:
    """Read what `encode` wrote.

    Args:
        encoded: the value.
        now: what is in its place; dicts keep their type, and objects with a state of their own are changed in place.

    Raises:
        LookupError: an object with a state of its own is not there yet.
    """
    kind, value, *more = encoded
    if kind == "value":
        return value
    if kind == "tensor":
        device = now.device if isinstance(now, torch.Tensor) else "cpu"
        return value.clone().to(device).requires_grad_(more[0])
    if kind == "array":
        return value.numpy()[()] if more[0] else value.numpy().copy()
    if kind == "dict":
        items = {}
        for key, item in value:
            name = decode(key)
            items[name] = decode(item, now.get(name) if isinstance(now, dict) else None)
        if not isinstance(now, dict) or type(now) is dict:
            return items
        now.clear()  # a defaultdict or an OrderedDict
        now.update(items)
        return now
    if kind in ("metric", "stateful"):
        if not hasattr(now, "load_state_dict"):
            raise LookupError
        restore_metric(now, decode(value)) if kind == "metric" else now.load_state_dict(decode(value))
        return now
    make: dict[str, Callable[..., Any]] = {"deque": deque, **{name: kind for kind, name in KINDS.items()}}
    old = now if isinstance(now, list) and len(now) == len(value) else [None] * len(value)
    return make[kind]([decode(each, was) for each, was in zip(value, old, strict=True)], *more)


def metric_state(metric: Metric) -> dict[str, Any]:
    """Read what a metric of torchmetrics has counted."""
    return {name: getattr(metric, name) for name in metric._defaults} | {"_update_count": metric._update_count}


def restore_metric(metric: Metric, state: dict[str, Any]) -> None:
    """Put back what a metric had counted."""

    def to_device(value: Any) -> Any:
        if isinstance(value, list):
            return [to_device(each) for each in value]
        return value.to(metric.device) if isinstance(value, torch.Tensor) else value

    for name, value in state.items():
        setattr(metric, name, to_device(value))
    metric._computed = None


class ChangedAttributes:
    """The attributes of some objects that change while a program runs, apart from what their own `state_dict` holds.

    Args:
        objects: by a name for messages.
        left_out: names of attributes that are another's business.
        others: objects that are another's business, wherever they are held.
        largest: bytes of an array that is looked at; larger ones are taken to be data.
    """

    def __init__(
        self,
        objects: dict[str, Any],
        left_out: Iterable[str] = (),
        others: Iterable[Any] = (),
        largest: float = math.inf,
    ) -> None:
        self.objects, self.left_out, self.others = objects, set(left_out), {id(each) for each in others}
        self.largest = largest
        self.known = {key: _digest(encoded) for key, encoded in self._read()}

    def _read(self) -> Iterator[tuple[Attribute, Encoded]]:
        for name, holder in self.objects.items():
            values = vars(holder).copy()
            if isinstance(holder, nn.Module):  # its state_dict leaves these buffers out
                values |= {buffer: holder._buffers[buffer] for buffer in holder._non_persistent_buffers_set}
            for attribute, value in values.items():
                if attribute in self.left_out or id(value) in self.others or getattr(value, "nbytes", 0) > self.largest:
                    continue
                with suppress(NotPlain):  # what is neither plain nor has a state: a trainer, a file, a function
                    yield (name, attribute), encode(value)

    def state(self) -> dict[str, dict[str, Encoded]]:
        """Read those that have changed since the object was made, by object and attribute."""
        changed: dict[str, dict[str, Encoded]] = {}
        for (name, attribute), encoded in self._read():
            if _digest(encoded) != self.known.get((name, attribute)):
                changed.setdefault(name, {})[attribute] = encoded
        return changed

    def restore(self, state: dict[str, dict[str, Encoded]]) -> None:
        """Put them back.

        Raises:
            UserError: an object with a state of its own, a network for example, is made only later.
        """
        for name, attributes in state.items():
            holder = self.objects.get(name)
            if holder is None:
                continue  # it only looks, and is not there any more
            for attribute, encoded in attributes.items():
                try:
                    setattr(holder, attribute, decode(encoded, getattr(holder, attribute, None)))
                except LookupError:
                    raise UserError(
                        f"{name} makes its attribute {attribute!r} only while it trains, so a run that was cut off"
                        " cannot go on: make it in setup() or on_fit_start(), or give it state_dict() and"
                        " load_state_dict()."
                    ) from None


def _digest(encoded: Encoded) -> bytes:
    sha256 = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            add_tensors(sha256, value)
        elif isinstance(value, list) and value[:1] != ["value"]:
            for each in value:
                add(each)
        else:
            sha256.update(repr(value).encode())  # at once, as it may be a long list of numbers

    add(encoded)
    return sha256.digest()
