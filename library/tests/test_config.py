"""The configuration composes in every combination, and refuses what cannot work."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from .project import ROOT, UserError, compose, module

GROUPS = ("data", "model", "trainer", "callbacks", "logger", "determinism", "experiment", "debug", "cluster")
OPTIONS = [f"{group}={path.stem}" for group in GROUPS for path in sorted((ROOT / "configs" / group).glob("*.yaml"))]


def test_defaults_are_deterministic() -> None:
    cfg = compose()
    assert cfg.seed == 0
    assert cfg.trainer.deterministic is True
    assert cfg.determinism.threads == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_passes_the_check(option: str) -> None:
    cfg = compose([option])
    cfg.paths.run = "run"
    OmegaConf.resolve(cfg)
    module("samebits.engine.config").check(cfg)


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "seed=null",
        "seed=1.5",
        "seed=one",
        "trainer.max_epochs=-1",
        "trainer.max_epochs=0",
        "trainer.max_epochs=many",
        "trainer.max_epochs=[1,2]",
        "model.optimizer.lr=fast",
        "model.optimizer.lr=0",
        "data.module.batch_size=0",
        "data.module.eval_batch_size=0",
        "data.module.num_workers=true",
        "data.split.test=1.5",
        "model.network.dropout=1",
        "determinism.threads=0",
        "determinism.portable=null",
        "trainer.devices=0",
        "+trainer.num_nodes=0",
        "determinism.shards=0",
        "trainer.val_check_interval=soon",
        "callbacks.resume.every_n_steps=0",
        "callbacks.resume.every_minutes=0",
        "data.module.prefetch_factor=0",
        "data.module.shift=-1",
        "force=1",
    ],
)
def test_a_value_that_cannot_work_is_named(override: str) -> None:
    key = override.lstrip("+").split("=")[0]
    with pytest.raises(UserError, match=rf"^{key} is .* must be "):
        module("samebits.engine.config").check(compose([override]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("determinism.threads=null", "the number of threads matters"),
        ("trainer.deterministic=false", "follows determinism.enabled"),
        ("+trainer.strategy=ddp_spawn", "trainer.devices says how many processes"),
        ("+trainer.benchmark=true", "the speed of the moment"),
        ("+trainer.max_time=00:00:01:00", "cannot be repeated.*: leave it out"),
    ],
)
def test_what_would_not_repeat_is_refused(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        module("samebits.engine.config").check(compose([override]))


@pytest.mark.parametrize(
    "override",
    [
        *("cluster.time=60", "cluster.time=1:00", "cluster.time=soon", "cluster.memory=8", "cluster.memory=8 GB"),
        *("cluster.cpus=0", "cluster.gpus=-1", "cluster.nodes=0", "cluster.tasks_per_node=x", "cluster.warning=0"),
        *("cluster.partition=''", "cluster.setup=module", "cluster.more=1", "cluster.container=5"),
    ],
)
def test_a_setting_of_the_cluster_that_cannot_work_is_named(override: str) -> None:
    key = override.split("=")[0]
    with pytest.raises(UserError, match=rf"^{key} is .* must be "):
        module("samebits.engine.config").check(compose(["cluster=slurm", override]))


def test_arguments_that_an_optimiser_does_not_take_are_named() -> None:
    with pytest.raises(UserError, match=r"under model\.optimizer do not work .*'fused'"):
        module("samebits.engine.config").instantiate(compose(["model.optimizer._target_=torch.optim.RMSprop"]), "model")


def test_a_gpu_is_not_portable() -> None:
    assert compose(["trainer=gpu"]).determinism.env.CUBLAS_WORKSPACE_CONFIG == ":4096:8"
    with pytest.raises(UserError, match="on a GPU, say determinism=gpu"):
        module("samebits.engine.config").check(compose(["trainer=gpu", "determinism=portable"]))


def test_a_class_that_is_not_named_is_asked_for() -> None:
    cfg = compose(["~data.module._target_"])
    with pytest.raises(UserError, match=r"data\.module have no _target_"):
        module("samebits.engine.config").instantiate(cfg, "data.module")


def test_zero_is_a_seed() -> None:
    module("samebits.engine.config").check(compose(["seed=0"]))


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.network.width=3", "model.network"),  # not an argument of the network
        ("model.optimizer._target_=torch.optim.Adamm", "model.optimizer"),
        ("trainer.precision=31", "trainer"),
    ],
)
def test_settings_that_do_not_fit_their_target_are_named(override: str, sentence: str) -> None:
    cfg = compose([f"++{override}"])
    cfg.paths.run = "run"
    with pytest.raises(UserError, match=sentence):
        module("samebits.engine.config").instantiate(cfg, override.split(".")[0])
