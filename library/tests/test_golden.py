"""The library's contract: reference trainings end bit for bit as golden.json says, or the contract is another."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from . import golden
from .golden import ACCUMULATION, IN_ORDER, TRAININGS, Digests
from .project import compose, module

determinism = module("samebits.engine.determinism")
pytestmark = pytest.mark.skipif(
    platform.machine() not in determinism.X86 or not determinism.supported(compose().determinism),
    reason="golden.json is of x86-64 processors with AVX2",
)
SHUFFLED = {name for name, words in TRAININGS.items() if IN_ORDER not in words}
ACCUMULATED = {name for name, words in TRAININGS.items() if ACCUMULATION in words}
SHARDED = {name for name, words in TRAININGS.items() if any("determinism.shards" in word for word in words)}


@pytest.fixture(scope="module")
def found(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """Train all of them with the library as it is."""
    return golden.train_all(workspace, tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(golden.PATH.read_text())
    return content


def test_every_training_ends_as_golden_json_says(found: Digests, known: dict[str, Any]) -> None:
    assert not (wrong := list(golden.problems(found, known))), "\n".join(wrong)
    assert len(found) >= 12 and len({each["weights"] for each in found.values()}) == len(found)


def test_one_that_is_cut_off_ends_as_one_that_is_not(found: Digests, workspace: Path, tmp_path: Path) -> None:
    (name,) = golden.CUT_OFF
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "CUT_OFF", {})
        assert golden.train_all(workspace, tmp_path, [name]) == {name: found[name]}


def other_order(patch: pytest.MonkeyPatch) -> None:
    """Seed the order of the samples by another number."""
    randomness = module("samebits.engine.randomness")
    mix, order = randomness.mix, randomness.Purpose.ORDER
    for where in (randomness, module("samebits.engine.data_loading")):
        patch.setattr(where, "mix", lambda seed, purpose, *rest: mix(seed, purpose, *rest) ^ (purpose is order))


def other_scale(patch: pytest.MonkeyPatch) -> None:
    """Make gradients of shards that are accumulated a little larger."""
    strategy = module("samebits.engine.sharded_strategy").ShardedStrategy
    backward = strategy.backward

    def scaled(self: Any, *arguments: Any, **named: Any) -> Any:
        scale = 1 + 1e-3 * (self.lightning_module.trainer.accumulate_grad_batches - 1)
        self.gradients = [(parameter, scale * gradient) for parameter, gradient in self.gradients]
        return backward(self, *arguments, **named)

    patch.setattr(strategy, "backward", scaled)


def other_reseeding(patch: pytest.MonkeyPatch) -> None:
    """Set the generators once for all batches of a step."""
    reseed = module("samebits.engine.randomness").Reseed
    before = reseed.on_train_batch_start

    def first_of_a_step(self: Any, trainer: Any, *rest: Any) -> None:
        if trainer.fit_loop.batch_idx % trainer.accumulate_grad_batches == 0:
            before(self, trainer, *rest)

    patch.setattr(reseed, "on_train_batch_start", first_of_a_step)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (other_order, SHUFFLED),
        (other_scale, ACCUMULATED & SHARDED),
        (other_reseeding, ACCUMULATED - SHARDED),
    ],
)
def test_a_planted_change_of_arithmetic_is_named_by_the_trainings_that_see_it(
    workspace: Path, tmp_path: Path, known: dict[str, Any], plant: Any, expected: set[str]
) -> None:
    """The negative controls: a change that only shuffling sees, and two that only accumulation sees."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        found = golden.train_all(workspace, tmp_path)
    assert expected and expected != set(found)
    assert {name for name in found if found[name] != known["trainings"][name]} == expected
    (said,) = golden.problems(found, known)
    named = golden.changed(found, known["trainings"])
    assert {each.partition(" (")[0] for each in named} == expected and f"changed: {'; '.join(named)}. " in said
    for word in ("Undo the change, or raise CONTRACT in src/samebits/engine/inputs.py", "CHANGELOG.md", golden.RENEW):
        assert word in said


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put copies in the place of golden.json and CHANGELOG.md, and return the folder that they are in."""
    for name in ("PATH", "CHANGELOG"):
        copy = tmp_path / getattr(golden, name).name
        copy.write_bytes(getattr(golden, name).read_bytes())
        monkeypatch.setattr(golden, name, copy)
    return tmp_path


def test_digests_are_renewed_only_when_the_contract_is_raised_and_the_changelog_says_so(
    copies: Path, known: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, contract = module("samebits.engine.inputs"), known["contract"]
    other = known["trainings"] | {"cnn": known["trainings"]["cnn"] | {"weights": "0" * 64}}

    def renew(found: Digests) -> tuple[int, str, Any]:
        status = golden.main(["--renew"], train=lambda workspace, folder: found)
        return status, capsys.readouterr().out, json.loads(golden.PATH.read_text())

    status, said, content = renew(other)
    assert status == 2 and "have changed: cnn (weights). Undo" in said and content == known
    monkeypatch.setattr(inputs, "CONTRACT", contract + 1)
    assert "renew" in " ".join(golden.problems(known["trainings"], known))  # raised and not renewed: noticed as well
    status, said, content = renew(other)
    assert (
        status == 2 and f"CHANGELOG.md does not say what contract {contract + 1} changes" in said and content == known
    )
    golden.CHANGELOG.write_text(f"## 9.0.0 · contract {contract + 1}\n")
    status, _, content = renew(other)
    assert status == 0 and content == known | {"contract": contract + 1, "trainings": other}
    assert not list(golden.problems(other, content))
    more = other | {"another": other["cnn"]}  # a training more changes no digest
    assert "lacks trainings" in " ".join(golden.problems(more, content)) and renew(more)[0] == 0


def test_digests_of_another_pytorch_are_told_apart(copies: Path, known: dict[str, Any]) -> None:
    other = known | {"torch": "0.0", "trainings": {name: {"weights": "0"} for name in TRAININGS}}
    (said,) = golden.problems(known["trainings"], other)
    assert "golden.json is of torch 0.0, and this is" in said
    golden.PATH.write_text(json.dumps(other))
    assert golden.renew(known["trainings"]) == "" and json.loads(golden.PATH.read_text()) == known
