"""What holds on a GPU: `python check.py`, at most 8 minutes; `--device cpu` rehearses it, small, without a GPU.

Needs samebits, PyTorch and Lightning, and no network. Each check trains a copy of the project in `study/`, in a
folder of its own, by the commands that a user would give, and prints a line. What is known so far is in the JSON file
at any time. README.md says what each line means.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
LEAST_THROUGHPUT, MOST_COST = 0.95, 1.05  # goals: against a plain loop; against the same training without a trace


class Wrong(Exception):
    """Something is not as it has to be; the text says what was found."""


def require(holds: object, found: object) -> None:
    """Raise Wrong unless something holds."""
    if not holds:
        raise Wrong(str(found)[-1500:])


@dataclass
class Line:
    """The result of a check."""

    name: str
    result: str  # ok, FAILED, below goal, not run
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {value}" for name, value in self.figures.items() if name != "details")
        return f"{self.name:22} {self.result:10} {self.seconds:5.0f} s   {figures}"


class Bench:
    """Where the checks run.

    Args:
        folder: for the copies of the project.
        device: `gpu` or `cpu`.
        until: when to be done, by time.monotonic().
    """

    def __init__(self, folder: Path, device: str, until: float) -> None:
        self.folder, self.device, self.until = folder, device, until
        self.gpu = device == "gpu"
        self.base = (f"determinism={'gpu' if self.gpu else 'native'}", f"trainer.accelerator={device}")
        self.running: set[subprocess.Popen[str]] = set()
        self.write_data(folder / "data", 4096 if self.gpu else 512)

    @staticmethod
    def write_data(folder: Path, count: int) -> None:
        """Write noisy images of ten patterns."""
        import numpy as np

        draw = np.random.default_rng(0)
        labels = draw.integers(0, 10, count)
        images = draw.normal(size=(10, 1, 32, 32))[labels] + 2 * draw.normal(size=(count, 1, 32, 32))
        folder.mkdir()
        np.savez(folder / "patterns.npz", images=images.astype(np.float32), labels=labels)

    def project(self, name: str) -> Path:
        """Copy the project, with a link to the data."""
        copy = Path(shutil.copytree(HERE / "study", self.folder / name, ignore=shutil.ignore_patterns("__pycache__")))
        (copy / "data").symlink_to(self.folder / "data")
        return copy

    def start(self, project: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start Python with some words in a project."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STUDY_")} | variables
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project), os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def call(self, project: Path, *words: str, status: int | None = 0, limit: float = 150, **variables: str) -> str:
        """Run Python to its end and return what it printed; None accepts every exit status."""
        process = self.start(project, *words, **variables)
        self.running.add(process)
        try:
            output, _ = process.communicate(timeout=max(1.0, min(limit, self.until - time.monotonic())))
        except subprocess.TimeoutExpired:
            self.end(process)
            raise Wrong(f"{' '.join(words)[:200]} did not end in time") from None
        finally:
            self.running.discard(process)
        require(status in (None, process.returncode), f"status {process.returncode}: {output}")
        return output

    @staticmethod
    def end(process: subprocess.Popen[str]) -> None:
        """Kill a process and those that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def train(self, project: Path, *words: str, **options: Any) -> str:
        """Train, and return what was printed."""
        return self.call(project, "-m", "study.train", *(words or self.base), **options)

    def reproduce(self, project: Path, **variables: str) -> dict[str, Any]:
        """Train the only run of a project again and return the verdict."""
        (run,) = project.glob("logs/runs/*-*/")
        output = self.call(
            project, "-m", "samebits", "reproduce", str(run), "--json", "--no-file", status=None, **variables
        )
        start = output.find("\n{\n")
        require(start >= 0, output)
        found: dict[str, Any] = json.loads(output[start:])
        return found


def outputs(project: Path, models: str = "logs/runs") -> dict[str, Any]:
    """Read what must be the same from the record of the only run in a folder."""
    (path,) = project.glob(f"{models}/*/record.json")
    found = json.loads(path.read_text())["outputs"]
    return {name: found[name] for name in ("weights", "tensors", "metrics", "trace")}


# --- the checks: each returns its figures, and raises Wrong


def machine(bench: Bench) -> dict[str, Any]:
    """Which machine this is; on a GPU, one has to be found."""
    program = """
import json, platform, sys, torch, pytorch_lightning, numpy, samebits
found = {"python": platform.python_version(), "torch": torch.__version__, "lightning": pytorch_lightning.__version__}
found |= {"numpy": numpy.__version__, "samebits": samebits.__version__, "gpu": None}
if torch.cuda.is_available():
    name, total = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
    found |= {"gpu": name, "memory": f"{total / 2**30:.0f} GiB", "cuda": torch.version.cuda}
    found |= {"cudnn": torch.backends.cudnn.version()}
print(json.dumps(found))
"""
    found: dict[str, Any] = json.loads(bench.call(bench.folder, "-c", program).splitlines()[-1])
    require(found["gpu"] or not bench.gpu, f"PyTorch finds no GPU: {found}")
    return found


def twice(bench: Bench, name: str, *words: str) -> dict[str, Any]:
    """A training and its re-run have the same bits, and two of the same seed and another seed have not."""
    project = bench.project(name)
    bench.train(project, *bench.base, *words)
    verdict = bench.reproduce(project)
    require(verdict["verdict"] == "IDENTICAL", verdict)
    found = outputs(project)
    require(found["trace"]["rows"] > 5, found)
    environment = json.loads(next(project.glob("logs/runs/*/record.json")).read_text())["environment"]
    require(bool(environment["gpu"]) is bench.gpu, environment["gpu"])
    loss = found["metrics"]["test/loss"]
    require(loss < 2.3, f"nothing was learnt: {loss}")
    figures = {"rows": found["trace"]["rows"], "loss": round(loss, 4), "weights": found["weights"][:12]}
    return figures | ({"gpu": environment["gpu"]} if bench.gpu else {})


def killed(bench: Bench) -> dict[str, Any]:
    """A training that is killed twice ends with the bits of one that is left alone."""
    project = bench.project("killed")
    words = (*bench.base, "callbacks.resume.every_n_steps=7", "callbacks.trace.every_n_steps=1")
    bench.train(project, *words, "samebits.models=alone")
    kills: list[int] = []
    for rows in (30, 100) if bench.gpu else (9,):
        process = bench.start(project, "-m", "study.train", *words, "samebits.models=killed", STUDY_PAUSE="0.03")
        trace = project / "killed"
        deadline = time.monotonic() + 90
        count = 0
        while time.monotonic() < deadline and process.poll() is None and count < rows:
            time.sleep(0.005)
            count = sum(path.read_bytes().count(b"\n") for path in trace.glob("*/trace.jsonl"))
        ended = process.poll() is not None
        bench.end(process)
        require(not ended, "the training ended before it was killed")
        require(count >= rows, f"only {count} rows after 90 s")
        kills.append(count)
    last = bench.train(project, *words, "samebits.models=killed")
    require("step" in last or "goes on" in last, last)
    alone, resumed = outputs(project, "alone"), outputs(project, "killed")
    require(alone == resumed, {"alone": alone["weights"], "resumed": resumed["weights"]})
    return {"killed at rows": kills, "rows": alone["trace"]["rows"], "weights": alone["weights"][:12]}


def planted(bench: Bench) -> dict[str, Any]:
    """A sum whose order is not fixed is named: NONDETERMINISTIC, with step, column and operator."""
    project = bench.project("planted")
    bench.train(project, *bench.base, "model.plant=race")
    verdict = bench.reproduce(project)
    require(verdict["verdict"] == "NONDETERMINISTIC", verdict)
    first = verdict["comparison"]["divergence"]
    require(first["step"] >= 1, first)
    operator = str(first["operator"])
    require(not bench.gpu or "index_add" in operator, f"it names {operator}")
    return {"step": first["step"], "column": first["column"], "operator": operator}


def refused(bench: Bench) -> dict[str, Any]:
    """An operation without a deterministic implementation ends the training with one sentence."""
    output = bench.train(bench.project("refused"), *bench.base, "model.plant=refused", status=2)
    require("put_ has no deterministic implementation" in output and "Traceback" not in output, output)
    return {"sentence": output.strip().splitlines()[-1][:110]}


def switched(bench: Bench, switch: str) -> dict[str, Any]:
    """With TF32 switched on between record and re-run, the verdict is ENVIRONMENT and names the flag."""
    project = bench.project(f"switched-{switch}")
    bench.train(project, *bench.base, "model=transformer", "trainer.precision=32-true")
    verdict = bench.reproduce(project, STUDY_SWITCH=switch)
    wanted = "TF32" if bench.gpu else "oneDNN"  # as the flag is called
    named = [f"{name}: {mine} → {theirs}" for name, mine, theirs in verdict["environment"]]
    require(any(wanted in each or "float32 in" in each for each in named), named)
    # on a CPU, another kernel may happen to give the same bits
    require(verdict["verdict"] == "ENVIRONMENT" or not bench.gpu, verdict)
    return {"verdict": verdict["verdict"], "named": named, **distance(verdict)}


def distance(verdict: dict[str, Any]) -> dict[str, Any]:
    """Say how far the weights are apart."""
    found = (verdict["comparison"] or {}).get("distance")
    return {"largest": f"{found['largest']:.2g}", "numbers": f"{found['numbers']}/{found['total']}"} if found else {}


def elsewhere(bench: Bench) -> dict[str, Any]:
    """A record that was made on a CPU and says `accelerator: auto` is verified here: ENVIRONMENT, with distances."""
    project = bench.project("elsewhere")
    words = ("determinism=native", "trainer.accelerator=auto", "trainer.precision=32-true")
    bench.train(project, *words, CUDA_VISIBLE_DEVICES="")
    verdict = bench.reproduce(project)
    named = [f"{name}: {mine} → {theirs}" for name, mine, theirs in verdict["environment"]]
    require(verdict["verdict"] == ("ENVIRONMENT" if bench.gpu else "IDENTICAL"), verdict)
    require(any("gpu" in each for each in named) or not bench.gpu, named)
    require(distance(verdict) or not bench.gpu, verdict["comparison"])
    return {"verdict": verdict["verdict"], "named": named[:6], **distance(verdict)}


def default(bench: Bench) -> dict[str, Any]:
    """Without a word on determinism, a training on a GPU is refused with the word to say; on a CPU it trains."""
    output = bench.train(bench.project("default"), "seed=1", status=2 if bench.gpu else 0)
    require(not bench.gpu or "determinism=gpu" in output, output)
    require("Traceback" not in output, output)
    return {"sentence": output.strip().splitlines()[-1][:110]}


def doctor(bench: Bench) -> dict[str, Any]:
    """`samebits doctor --gpu` finds the GPU, and the same bits twice; on a CPU it says that there is none."""
    output = bench.call(bench.project("doctor"), "-m", "samebits", "doctor", "--gpu", "--json", status=None)
    start = output.find("{\n")
    require(start >= 0, output)
    found = {each["what"]: each for each in json.loads(output[start:])["checks"] if each["section"] == "GPU"}
    marks = {name: each["mark"] for name, each in found.items()}
    networks = {"convolutional network", "transformer"} if bench.gpu else set()
    require(marks == {"GPU": "ok" if bench.gpu else "problem"} | dict.fromkeys(networks, "ok"), found)
    return {name: each["found"] for name, each in found.items()}


def cost(bench: Bench, name: str, network: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """What a step costs, in a plain loop and otherwise; study/costs.py says what the kinds are, and what it writes."""
    project = bench.project(name)
    path = project / "costs.json"
    words = ["model=transformer", "+model.logs=false", *network, "data.repeat=200", bench.base[0]]
    words += [f"trainer.accelerator={bench.device}", "trainer.max_epochs=1000", *settings.pop("words")]
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | CUBLAS
    failed, printed = "", ""
    try:
        arguments = (str(path), json.dumps(settings), *words)
        printed = bench.call(project, "-m", "study.costs", *arguments, limit=240, **variables)
    except Wrong as error:  # what is known so far is of interest all the same
        failed = str(error)
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    against = figures.get("throughput of plain", {}), figures.get("times bare", {})
    require("samebits" in against[0], failed or printed)
    missed = against[0]["samebits"] < LEAST_THROUGHPUT or against[1]["samebits"] > MOST_COST
    return figures | {"below goal": bench.gpu and missed} | ({"failed": failed} if failed else {})


def checks(bench: Bench) -> list[tuple[bool, str, Callable[[], dict[str, Any]]]]:
    """List the checks, the most important first: whether others may run beside it, name, what to call."""
    width = {"10": ("512", "3", "8"), "100": ("1024", "8", "16")} if bench.gpu else {"0.1": ("64", "2", "4")}
    sizes = {
        name: [f"model.network.width={w}", f"model.network.layers={n}", f"model.network.heads={h}"]
        for name, (w, n, h) in width.items()
    }
    full, network = "trainer.precision=32-true", "model=transformer"
    listed: list[tuple[bool, str, Callable[[], dict[str, Any]]]] = [
        (True, "twice cnn bf16", lambda: twice(bench, "cnn-bf16")),
        (True, "twice transformer bf16", lambda: twice(bench, "transformer-bf16", network)),
        (True, "killed and resumed", lambda: killed(bench)),
        (True, "planted race", lambda: planted(bench)),
        (True, "TF32 switched", lambda: switched(bench, "legacy")),
        (True, "default settings", lambda: default(bench)),
        (True, "refused operation", lambda: refused(bench)),
        (True, "doctor --gpu", lambda: doctor(bench)),
    ]
    if bench.gpu:
        listed += [
            (True, "CPU's record here", lambda: elsewhere(bench)),
            (True, "twice cnn fp32", lambda: twice(bench, "cnn-fp32", full)),
            (True, "twice transformer fp32", lambda: twice(bench, "transformer-fp32", network, full)),
            (True, "TF32, the new switch", lambda: switched(bench, "new")),
        ]
    kinds = ["plain", "lightning", "bare", "trace", "checkpoints", "samebits"]
    few = {"kinds": kinds, "rounds": 2, "first": 4, "last": 40, "save": 20}
    many = few | {"rounds": 4, "first": 20, "last": 120, "save": 60, "words": ["data.batch_size=512"]}
    settings = {
        "10": many,  # of a hundred steps one has a row of the trace, and one a checkpoint: five times the usual
        "100": many | {"kinds": ["plain", "bare", "samebits"], "rounds": 2, "last": 520, "save": 260},  # as usual
        "0.1": few | {"words": ["callbacks.trace.every_n_steps=15"]},
    }
    for size, words in sizes.items():
        listed.append((False, f"cost at {size} M", partial(cost, bench, f"cost-{size}", words, settings[size])))
    return listed


def main() -> int:
    """Run the checks; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: a rehearsal, in small")
    parser.add_argument("--minutes", type=float, default=8, help="what is not begun by then is left out (8)")
    parser.add_argument("--jobs", type=int, help="checks at a time, but for those that measure (4; on a CPU 2)")
    parser.add_argument("--only", default="", help="only the checks with this in their name")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file for the results (gpu.json)")
    arguments = parser.parse_args()
    started = time.monotonic()
    until = started + 60 * arguments.minutes
    lines: list[Line] = []
    lock = threading.Lock()

    def report(line: Line) -> None:
        with lock:
            lines.append(line)
            print(line, flush=True)
            whole = {"device": arguments.device, "seconds": round(time.monotonic() - started, 1)}
            waiting = arguments.json.with_suffix(".part")
            waiting.write_text(json.dumps(whole | {"checks": [asdict(each) for each in lines]}, indent=1) + "\n")
            waiting.replace(arguments.json)

    def run(name: str, check: Callable[[], dict[str, Any]]) -> None:
        begun = time.monotonic()
        if until - begun < 15:
            report(Line(name, "not run", 0, {"reason": "the minutes are over"}))
            return
        try:
            figures = check()
            result = "below goal" if figures.pop("below goal", False) else "ok"
        except Exception as error:  # whatever it is, the other checks go on
            result, figures = "FAILED", {"found": f"{type(error).__name__}: {error}"}
        report(Line(name, result, round(time.monotonic() - begun, 1), figures))

    with tempfile.TemporaryDirectory(prefix="samebits-gpu-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), arguments.device, until)
        if not arguments.only:
            run("machine", lambda: machine(bench))
        if not lines or lines[0].result == "ok":
            chosen = [each for each in checks(bench) if arguments.only in each[1]]
            with ThreadPoolExecutor(arguments.jobs or (4 if bench.gpu else 2)) as pool:
                list(pool.map(lambda each: run(*each[1:]), [each for each in chosen if each[0]]))
            for _, name, check in (each for each in chosen if not each[0]):
                run(name, check)
    failed = [line.name for line in lines if line.result == "FAILED"]
    print(f"{len(lines) - len(failed)} of {len(lines)} hold" + (f"; not: {', '.join(failed)}" if failed else ""))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
