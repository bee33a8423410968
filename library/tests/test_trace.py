"""The trace: what a fingerprint tells apart, what a row holds, and how the first divergence is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from .conftest import Compose
from .project import module

fingerprint, traces = module("samebits.engine.fingerprint"), module("samebits.engine.trace_reader")


def of_training(path: Path) -> list[dict[str, Any]]:
    return [row for row in traces.read_trace(path) if "evaluation" not in row]


@pytest.fixture
def rows(trained: Path) -> list[dict[str, Any]]:
    return of_training(trained / "trace.jsonl")


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fingerprint tensors of a CPU as if it were a GPU."""
    monkeypatch.setattr(fingerprint, "ON_DEVICE", ("cpu",))


def test_a_fingerprint_tells_bits_apart_not_values(of: Callable[[Any], str] = fingerprint.of_tensors) -> None:
    different = [
        torch.tensor([0.0, 1.0]),
        torch.tensor([-0.0, 1.0]),
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([0.0, 1.0], dtype=torch.bfloat16),
        torch.tensor([0.0, 1.0], dtype=torch.float16),
        torch.tensor([0.0, float("nan")]),
        torch.tensor([0, 2143289345], dtype=torch.int32).view(torch.float32),  # another NaN
        torch.tensor(0.0),
        torch.empty(0),
        torch.empty(0, 2),
        torch.tensor([False, True]),
        torch.tensor([0.0, 1.0], dtype=torch.complex64),
    ]
    assert len({of(tensor) for tensor in different}) == len(different)
    assert of([different[0], {"a": np.zeros(2)}]) != of([different[0], {"a": np.ones(2)}])
    square = torch.arange(6.0).reshape(2, 3)
    assert of(square.T) == of(square.T.contiguous()) != of(square.reshape(3, 2))  # not by how it lies in memory
    assert of(torch.eye(2).to_sparse()) == of(torch.eye(2))
    assert of(torch.tensor([1.0, 2.0])[1]) == of(torch.tensor(2.0))


def test_fingerprints_draw_no_random_number() -> None:
    before = torch.get_rng_state()
    sha256 = module("samebits.engine.files").hashlib.sha256()
    fingerprint.add_generators(sha256)
    first = sha256.hexdigest()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    sha256 = module("samebits.engine.files").hashlib.sha256()
    fingerprint.add_generators(sha256)
    assert sha256.hexdigest() != first


def of_a_gpu(value: Any) -> str:
    """Fingerprint as a GPU does."""
    return str(fingerprint.collect({"": fingerprint.begin(value)})()[""])


@pytest.mark.usefixtures("on_device")
def test_sums_tell_apart_what_hashes_do() -> None:
    test_a_fingerprint_tells_bits_apart_not_values(of_a_gpu)
    torch.manual_seed(0)
    values = torch.randn(1001)
    first = of_a_gpu(values)
    assert first.startswith("+") and len(first) == 17 and of_a_gpu(values.clone()) == first
    seen = {first, of_a_gpu(values.flip(0)), of_a_gpu(values[:-1]), of_a_gpu(-values)}
    for one, other in ((0, 1), (0, 2), (1, 999), (500, 1000)):
        for change in (
            lambda pair: pair.flip(0),
            torch.neg,
            lambda pair: pair.view(torch.int32).add(1).view(pair.dtype),
        ):
            changed = values.clone()
            changed[[one, other]] = change(changed[[one, other]])
            seen.add(of_a_gpu(changed))
    assert len(seen) == 4 + 4 * 3
    assert of_a_gpu([values, torch.ones(2)]) not in (first, of_a_gpu([torch.ones(2), values]))


@pytest.mark.usefixtures("on_device")
def test_sums_do_not_depend_on_place_or_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(1003).bfloat16()
    first = of_a_gpu(values)
    assert of_a_gpu(torch.cat([torch.ones(1).bfloat16(), values])[1:]) == first  # from an address in between
    number = int(fingerprint._keys(torch.device("cpu"))[0])
    assert number == 259491006799949737  # NumPy promises it for all times
    monkeypatch.setattr(fingerprint, "WORDS", 16)
    whole = [int(each) for each in fingerprint._sums(torch.arange(32))]
    keys = np.random.Philox(0).random_raw(16)
    words = (np.arange(16, dtype=np.uint64)[None] + np.uint64(16) * np.arange(2, dtype=np.uint64)[:, None]) + keys
    low, high = (words.astype(np.uint32).astype(np.int32), (words >> np.uint64(32)).astype(np.uint32).astype(np.int32))
    assert whole == (low.astype(np.int64) * high.astype(np.int64)).sum(axis=1).tolist()


@pytest.mark.usefixtures("on_device")
def test_fingerprints_are_those_of_when_they_were_begun() -> None:
    tensors = {
        "weights": torch.randn(33, 7),
        "bf16": torch.randn(5).bfloat16(),
        "transposed": torch.randn(4, 6).T,
        "channels": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "complex": torch.randn(3, dtype=torch.complex64).conj(),
        "number": torch.tensor(3),
        "none": torch.empty(0),
    }
    named: dict[str, Any] = {**tensors, "state": {"steps": 3}}
    expected = fingerprint.by_name(named.items())
    found = fingerprint.begin_by_name(named.items())
    with torch.no_grad():
        for each in tensors.values():
            each += 1
    assert found() == expected
    after = fingerprint.by_name(named.items())
    assert {name for name in named if after[name] == expected[name]} == {"none", "state"}
    assert fingerprint.combine(after).startswith("+")


def test_a_trace_made_on_the_device_is_not_compared_with_one_of_hashes(
    settings: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=9",
        "callbacks.trace.dense=2",
        "callbacks.trace.every_n_steps=3",
    )
    words += ("callbacks.resume.every_n_steps=4", "snapshot=false")
    found = []
    for name, kinds in {"hashes": ("cuda",), "sums": ("cpu",), "again": ("cpu",)}.items():
        monkeypatch.setattr(fingerprint, "ON_DEVICE", kinds)
        module("dummy.train").train(settings(*words, f'paths.models="{tmp_path / name}"'))
        (path,) = (tmp_path / name).glob("*/trace.jsonl")
        found.append(path)
    assert found[1].read_bytes() == found[2].read_bytes()
    everything = list(map(traces.read_trace, found))
    assert traces.first_divergence(*everything[:2]) is None
    evaluated = [row for row in everything[1] if "evaluation" in row]
    assert len(evaluated) == 3 and all(row["batch"].startswith("+") for row in evaluated)
    hashes, sums = map(of_training, found[:2])
    assert [row["step"] for row in hashes] == [row["step"] for row in sums] and len(sums) > 5
    assert [row.get(name) for row in hashes for name in ("batch", "rng", "loss")] == [
        row.get(name) for row in sums for name in ("batch", "rng", "loss")
    ]
    assert all(each[2].startswith("+") for each in sums[1]["operators"])
    assert traces.first_divergence(hashes, sums) is None
    sums[2]["weights"]["network.layers.0.weight"] = "+1"
    assert traces.first_divergence(hashes, sums) is None
    assert traces.first_divergence(traces.read_trace(found[2]), sums).column == "weights"
    sums[3]["loss"] = ["0"]
    assert traces.first_divergence(hashes, sums).column == "loss"


def test_the_first_steps_have_an_entry_for_each_parameter(rows: list[dict[str, Any]]) -> None:
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert list(rows[0]) == ["step", "weights", "follows"]
    for row in rows[1:]:
        assert {"epoch", "batch", "rng", "loss", "grad", "weights"} <= set(row)
        assert set(row["grad"]) == set(row["weights"]) and len(row["grad"]) == 8
    assert rows[1]["operators"][0][:2] == ["convolution.default", "network.layers.0"]
    assert "operators" not in rows[2]


def test_later_steps_have_one_entry_and_the_last_is_there(settings: Compose) -> None:
    cfg = settings(
        "trainer.limit_train_batches=9",
        "+trainer.accumulate_grad_batches=2",
        "callbacks.trace.dense=1",
        "callbacks.trace.every_n_steps=2",
        "callbacks.trace.operators=[3]",
        "paths.models='${paths.root}/traced'",
    )
    module("dummy.train").train(cfg)
    (path,) = Path(cfg.paths.models).glob("*/trace.jsonl")
    rows = of_training(path)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]  # five steps of two batches, the last of one
    assert isinstance(rows[1]["grad"], dict) and isinstance(rows[2]["grad"], str) and "operators" in rows[3]
    assert len(rows[1]["loss"]) == 2 and "grad" not in rows[5] and isinstance(rows[5]["weights"], str)
    assert traces.broken_row(path) is None


@pytest.mark.parametrize("column", ["batch", "rng", "loss", "grad", "weights"])
def test_the_first_divergence_is_the_first_cause(rows: list[dict[str, Any]], column: str) -> None:
    other = copy.deepcopy(rows)
    assert traces.first_divergence(rows, other) is None
    columns = list(traces.COLUMNS)
    for later in columns[columns.index(column) :]:  # whatever follows from it differs as well
        value = other[2][later]
        other[2][later] = {name: "0" * 16 for name in value} if isinstance(value, dict) else "0" * 16
    found = traces.first_divergence(rows, other)
    assert (found.step, found.column) == (2, column)
    assert ("parameter network.layers.0.weight and 7 more" in str(found)) == (column in ("grad", "weights"))
    assert traces.first_divergence(rows, other, upto=1) is None
    assert traces.first_divergence(rows, rows[:-1]).column == "end"


def test_between_traced_steps_only_the_interval_is_known() -> None:
    rows = [{"step": step, "loss": "1", "operators": [["add", "x", "1"]]} for step in (0, 1, 100, 200)]
    other = copy.deepcopy(rows)
    other[2] |= {"loss": "2", "operators": [["add", "x", "2"]]}
    found = traces.first_divergence(rows, other)
    assert found.when() == "a step from 2 to 100" and not found.operator and "not traced" in found.meaning()
    other[1] |= {"loss": "2", "operators": [["add", "x", "2"]]}
    found = traces.first_divergence(rows, other)
    assert found.when() == "step 1" and found.operator == "add in x"


def test_a_line_that_was_removed_or_changed_is_found(trained: Path, tmp_path: Path) -> None:
    lines = (trained / "trace.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "trace.jsonl"
    for spoilt, where in (
        (lines, None),
        (lines[:1] + lines[2:], "after step 0, line 2 (step 2)"),
        ([lines[0].replace(b"0", b"1", 1), *lines[1:]], "line 2 (step 1)"),
        ([*lines[:2], b"nonsense\n"], "line 3 is no row"),
    ):
        path.write_bytes(b"".join(spoilt))
        found = traces.broken_row(path)
        assert (found is None) if where is None else where in found


def test_the_first_differing_operator_is_named() -> None:
    def listed(scale: float) -> list[list[str]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 3), nn.Softplus(beta=scale), nn.Linear(3, 1))
        recorder = module("samebits.engine.trace_writer").OperatorTrace(model)
        recorder.start()
        loss = model(torch.ones(2, 3)).sum()
        recorder.phase = "backward"
        loss.backward()
        rows: list[list[str]] = recorder.stop()
        torch.ones(1) + 1  # no longer seen
        return rows

    one, other = listed(1.0), listed(2.0)
    assert [row[:2] for row in one] == [row[:2] for row in other] and json.dumps(one) == json.dumps(listed(1.0))
    assert traces._first_operator(one, other) == "softplus in 1"
    model = nn.Sequential(nn.Linear(1, 1))
    is_compiled = module("samebits.engine.trace_writer").is_compiled
    compiled: Any = torch.compile(model)
    assert not is_compiled(model) and is_compiled(nn.Sequential(compiled))
    model[0].compile()
    assert is_compiled(model)
    assert "mm in backward" in [traces._name(row) for row in one]
