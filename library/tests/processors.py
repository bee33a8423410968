"""Train with `determinism=portable` on emulated processors of other kinds, and compare weights and traces.

`python -m tests.processors`; `make soak` calls it. It needs
qemu's user-mode emulation (Debian's package qemu-user-static), whose arithmetic is the real one, only slow.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .project import NAME, ROOT
from .trainings import prepare

QEMU = "qemu-x86_64-static"
NETWORKS = {
    "cnn": ("model=cnn",),
    "mlp": ("model=mlp",),
    "transformer": ("model=mlp", "model.network._target_=tests.networks.Transformer", "model.network.hidden=[32,64]"),
}
# How each training is started: words before the command, and environment variables set beforehand
SURROUNDINGS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "this processor": ((), {}),
    "default and SSE41 set beforehand": ((), {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    "avx512 and ALL set beforehand": ((), {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "ALL"}),
    "Intel Haswell": ((QEMU, "-cpu", "Haswell"), {}),
    "AMD EPYC-Rome": ((QEMU, "-cpu", "EPYC-Rome"), {}),
}
FORTY_STEPS = ("trainer.max_epochs=1", "trainer.limit_train_batches=40", "callbacks.best=null")


def digest(folder: Path, network: str, surroundings: str, determinism: str) -> str:
    """Train for forty steps; return the digests of the weights and of the trace."""
    words, variables = SURROUNDINGS[surroundings]
    models = folder / f"{network} {surroundings} {determinism}"
    command = [*words, sys.executable, "-m", f"{NAME}.train", *FORTY_STEPS, *NETWORKS[network]]
    command += [f"determinism={determinism}", f'paths.models="{models}"', f'paths.processed="{folder}/data/processed"']
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, f"{network}, {surroundings}: {done.stdout}"
    (record,) = models.glob("*/record.json")
    outputs = json.loads(record.read_text())["outputs"]
    return f"{outputs['weights'][:12]} {outputs['trace']['sha256'][:12]}"


def main() -> int:
    """Print a table; return 1 where weights differ that must not, or the control cannot tell processors apart."""
    parser = argparse.ArgumentParser(prog="python -m tests.processors", description=__doc__.split("\n")[0])
    parser.parse_args()
    if not shutil.which(QEMU):
        print(f"error: {QEMU} is missing: install Debian's package qemu-user-static.", file=sys.stderr)
        return 2
    begin = time.monotonic()
    cases = [(network, where, "portable") for network in NETWORKS for where in SURROUNDINGS]
    cases += [(network, where, "native") for network in NETWORKS for where in ("this processor", "Intel Haswell")]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        prepare(Path(folder))
        digests = pool.map(lambda case: digest(Path(folder), *case), cases)
        found: dict[tuple[str, str, str], str] = {}
        for case, weights in zip(cases, digests, strict=True):
            found[case] = weights
            network, where, determinism = case
            same = weights == found[network, "this processor", determinism]
            wanted = where == "this processor" or determinism == "portable"
            wrong += same != wanted
            verdict = ("identical" if same else "different") + ("" if same == wanted else ": WRONG")
            print(f"{determinism:<10}{network:<13}{where:<34}{weights}  {verdict}", flush=True)
    print(f"{len(cases)} trainings in {time.monotonic() - begin:.0f} s, {wrong} not as they must be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
