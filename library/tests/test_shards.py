"""A batch in shards gives the same bits in any number of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import Compose
from .cutting import exact
from .project import FEW, UserError, command, module

BUSY = ("model._target_=tests.busy.Shared", "data.module._target_=tests.busy.BusyDataModule")
# The last batch of each epoch has one sample, so three shards without any
WORDS = (
    *BUSY,
    "data.module.batch_size=314",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=1.0",
    "trainer.log_every_n_steps=1",
    "determinism.shards=4",
    "+trainer.accumulate_grad_batches=2",
    "model.optimizer.lr=0.01",
)
PROCESSES = "trainer=ddp"
SHORT = (*FEW, "snapshot=false")


@pytest.fixture(scope="module")
def words(settings: Compose, workspace: Path) -> tuple[str, ...]:
    """Return the words by which a command trains like `settings`."""
    return (f'paths.root="{workspace}"', *SHORT, *WORDS)


def run_of(models: Path) -> Path:
    (record,) = models.glob("*/record.json")
    return record.parent


def results(run: Path) -> tuple[Any, str]:
    """Read what must be the same: weights, metrics, predictions, trace, and the course of training."""
    return json.loads((run / "record.json").read_text())["outputs"], (run / "history.csv").read_text()


@pytest.fixture(scope="module")
def alone(settings: Compose, workspace: Path) -> Path:
    """Train in one process, this one."""
    cfg = settings(*WORDS, "paths.models='${paths.root}/shards/alone'")
    module("dummy.train").train(cfg)
    return run_of(workspace / "shards/alone")


def test_two_processes_give_the_bits_of_one(words: tuple[str, ...], alone: Path, workspace: Path) -> None:
    done = command("train", *words, PROCESSES, f'paths.models="{workspace}/shards/two"')
    assert done.returncode == 0, done.stderr
    run = run_of(workspace / "shards/two")
    assert run.name == alone.name and results(run) == results(alone)
    observed = json.loads((run / "record.json").read_text())["observed"]
    assert observed["processes"] == 2
    assert done.stdout.count("weights ") == 1, "only the first process speaks"
    assert "norm (BatchNorm2d) takes its statistics from each shard by itself" in done.stdout


def test_ordinary_loaders_are_split_as_well(settings: Compose, workspace: Path) -> None:
    plain = ("data.module._target_=tests.busy.PlainDataModule", "determinism.shards=4")
    module("dummy.train").train(settings(*plain, "paths.models='${paths.root}/shards/plain'"))
    where = (f'paths.root="{workspace}"', f'paths.models="{workspace}/shards/plain two"')
    done = command("train", *SHORT, *plain, PROCESSES, *where)
    assert done.returncode == 0, done.stderr
    assert results(run_of(workspace / "shards/plain two")) == results(run_of(workspace / "shards/plain"))


def test_buffers_that_no_step_changes_stay_as_they_are() -> None:
    busy = module("samebits.engine.config").instantiate(
        module("samebits.engine.config").compose(["model._target_=tests.busy.Shared"]), "model"
    )
    buffers = module("samebits.engine.shard_buffers").ShardBuffers(busy)
    before = {name: buffer.clone() for name, buffer in busy.named_buffers()}
    buffers.begin_step()
    total = torch.zeros(sum(buffers.sizes), dtype=torch.float64)
    for size in (3, 2, 2, 2):
        buffers.begin_shard()
        busy.norm(torch.randn(size, 1, 8, 8))
        total += torch.cat(buffers.read(size / 9))
    buffers.write(total)
    changed = {name for name, buffer in busy.named_buffers() if exact(buffer) != exact(before[name])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert busy.norm.num_batches_tracked == 1


def test_the_number_of_shards_does_matter(settings: Compose, alone: Path, workspace: Path) -> None:
    """The control, for all of the above."""
    module("dummy.train").train(settings(*WORDS, "determinism.shards=2", "paths.models='${paths.root}/shards/control'"))
    other = run_of(workspace / "shards/control")
    assert other.name != alone.name and results(other)[0]["weights"] != results(alone)[0]["weights"]


def test_without_a_number_of_shards_there_is_one_for_each_process(settings: Compose) -> None:
    collect, ranks = module("samebits.engine.inputs").settings_that_count, module("samebits.engine.distributed")
    two, same = settings(PROCESSES), settings("determinism.shards=2")
    assert ranks.number_of_shards(two) == ranks.wanted_processes(two) == 2
    assert collect(two) == collect(same) != collect(settings())


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((*BUSY, "model._target_=tests.busy.ManualClassifier"), "optimises by itself"),
        (
            ("model._target_=tests.busy.Collecting",),
            r"the metric curve \(MulticlassAUROC\) is updated in training_step",
        ),
        (("model._target_=tests.busy.BusyClassifier",), "another reduce_fx than mean or sum"),
        (("data.module._target_=tests.programs.AnyDataModule", "+data.module.loader=stream"), "cannot be split"),
        (("data.module.batch_size=1",), "too few samples for 2 shards"),
        (("trainer.devices=3",), "make 3 processes, and each of them needs a shard"),
        (("trainer.devices=2",), "need a command of their own"),
        (("+trainer.precision=16-mixed",), "use bf16-mixed"),
    ],
)
def test_what_shards_cannot_do_is_refused(settings: Compose, overrides: tuple[str, ...], said: str) -> None:
    models = "paths.models='${paths.root}/shards/refused'"
    with pytest.raises(UserError, match=said):
        module("dummy.train").train(settings("determinism.shards=2", *overrides, models))


def test_another_number_of_processes_than_was_started_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
            patch.setenv(name, value)
        with pytest.raises(UserError, match=r"torchrun has started 3 processes, but .* ask for 1"):
            module("samebits.engine.distributed").require_match(module("samebits.engine.config").compose())
    with pytest.raises(UserError, match=r"num_nodes=2 needs SLURM's srun or torchrun on each node"):
        module("samebits.engine.distributed").require_match(
            module("samebits.engine.config").compose([PROCESSES, "trainer.num_nodes=2"])
        )


@pytest.mark.parametrize("leaves", [1, 2, 3, 4, 6, 7, 8, 12])
def test_a_sum_does_not_depend_on_who_holds_what(leaves: int) -> None:
    tree, local_shards = module("samebits.engine.shard_buffers"), module("samebits.engine.data_loading").local_shards
    values = torch.randn(leaves, 1000, generator=torch.Generator().manual_seed(0)) * 10 ** torch.linspace(-3, 3, 1000)
    root = (0, leaves)

    def total(world: int) -> torch.Tensor:
        known = {}
        for rank in range(world):
            for node in tree.largest_nodes(root, *local_shards(leaves, world, rank)[1:]):
                known[node] = tree.tree_reduce(
                    node, lambda span: values[span[0]] if span[1] - span[0] == 1 else None, torch.add
                )
        return tree.tree_reduce(root, known.get, torch.add)

    sums = [total(world) for world in range(1, leaves + 1)]
    assert all(torch.equal(each, sums[0]) for each in sums)
    if leaves > 3:  # the control: each of two processes adding up its own one after the other, as is commonly done
        _, low, high = local_shards(leaves, 2, 0)
        assert not torch.equal(values.cumsum(0)[-1], values[low:high].cumsum(0)[-1] + values[high:].cumsum(0)[-1])
