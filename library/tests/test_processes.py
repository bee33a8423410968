"""Several processes: one digest for every number of them, and what happens when one of them dies."""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .process_kills import kill_runs, wait
from .process_kills import trainings as in_processes
from .trainings import Trainings

pytestmark = pytest.mark.slow

SHARDS = "determinism.shards=4"


def free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def trainings(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """Train with four shards in one process, to compare with."""
    trainings = in_processes(workspace, tmp_path_factory.mktemp("processes"))
    output = trainings.run("alone", SHARDS)
    assert "norm (BatchNorm2d) takes its statistics from each shard by itself" in output
    return trainings


@pytest.mark.parametrize("world", [2, 4])
def test_with_shards_every_number_of_processes_gives_the_same_bits(trainings: Trainings, world: int) -> None:
    trainings.run(f"sharded-{world}", "trainer=ddp", f"trainer.devices={world}", SHARDS)
    assert trainings.results(f"sharded-{world}") == trainings.results("alone")


def test_without_shards_each_number_of_processes_repeats_itself(trainings: Trainings) -> None:
    for name, world in (("first", 2), ("second", 2), ("four", 4)):
        trainings.run(name, "trainer=ddp", f"trainer.devices={world}")
    assert trainings.results("first") == trainings.results("second")
    assert trainings.results("four") == trainings.results("alone")  # four processes are four shards
    # the control: two processes give other bits than four
    weights = [trainings.results(name)["model.safetensors"] for name in ("first", "four")]
    assert weights[0] != weights[1]


def test_one_that_dies_ends_the_others_and_the_run_goes_on_exactly(trainings: Trainings) -> None:
    deaths = kill_runs(trainings, runs=4, seed=random.randrange(2**32))
    assert [death.different for death in deaths] == [[]] * 4
    for death in deaths:
        assert death.status == 1 and "Traceback" not in death.said
        error = rf"error: process {death.rank} \(of {death.world}, counted from 0\) was ended by SIGKILL, so the others"
        errors = re.findall("error: .*", death.said)
        assert len(errors) == 1 and re.match(error + ".*the same command goes on", errors[0])
        assert death.seconds < 30


def test_sigterm_makes_all_of_them_save(trainings: Trainings) -> None:
    process = trainings.start("terminated", "trainer=ddp", SHARDS, "callbacks.resume.every_n_steps=1000")
    wait(trainings, process, "terminated", 200)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75 and "Asked to stop: saved step" in output and "Traceback" not in output
    assert "going on from step" in trainings.run("terminated", SHARDS)
    assert trainings.results("terminated") == trainings.results("alone")


def test_a_mistake_is_told_once(trainings: Trainings) -> None:
    output = trainings.run("mistake", "trainer=ddp", "model.optimizer.fused=false", status=2)
    assert output.count("error: ") == 1 and "needs a fused optimiser" in output and "Traceback" not in output


def test_torchrun_starts_them_as_well_on_two_nodes(trainings: Trainings) -> None:
    meet = ("--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={free_port()}")

    def start(node: int, *words: str) -> subprocess.Popen[str]:
        launcher = (sys.executable, "-m", "torch.distributed.run", *meet, f"--node-rank={node}")
        return trainings.start("nodes", "trainer=ddp", SHARDS, *words, launcher=launcher)

    nodes = [start(node, "trainer.devices=1", "trainer.num_nodes=2") for node in range(2)]
    said = [node.communicate(timeout=180)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert trainings.results("nodes") == trainings.results("alone")
    nodes = [start(node, "trainer.devices=3", "force=true") for node in range(2)]  # a mistake
    said = [node.communicate(timeout=180)[0] for node in nodes]
    assert "torchrun has started 2 processes, but trainer.devices and trainer.num_nodes ask for 3" in said[0]
