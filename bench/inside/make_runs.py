"""Fill a project with finished runs, all of them copies of its main run: `make_runs.py EXPERIMENTS SEEDS`.

Each has its own settings, id, seal and metrics, so that every check of a record has its work and finds nothing. Beside
them it leaves what a sweep would have noted of them.
"""

import os
import random
import shutil
import sys

os.fsync = lambda descriptor: None  # what is made here is thrown away

from safetensors.numpy import load_file, save_file  # noqa: E402
from samebits import project  # noqa: E402
from samebits.engine import record as records  # noqa: E402
from samebits.engine.config import compose  # noqa: E402
from samebits.engine.git_snapshot import PATCH  # noqa: E402
from samebits.engine.inputs import collect, inputs_id, settings_that_count  # noqa: E402
from samebits.engine.record import RunDirectory  # noqa: E402
from samebits.engine.trace_reader import TRACE  # noqa: E402
from samebits.engine.weights import RUN_KEY  # noqa: E402
from samebits.sweep.run_status import LOGS, RunState, write_state  # noqa: E402

experiments, seeds = map(int, sys.argv[1:])
main = project().root / "models/main"
record = records.read_record(main)
tensors = load_file(main / records.WEIGHTS)
cfg = compose()
inputs = collect(cfg) | {"origin": record["inputs"]["origin"]}
began = record["observed"]["started"]
log = "".join(f"epoch {epoch}/40\n" for epoch in range(40))
for experiment in range(experiments):
    cfg.model.optimizer.lr = rate = (experiment + 1) / 1000
    for cfg.seed in range(seeds):
        inputs["config"] = settings_that_count(cfg)
        name = f"cnn-lr={rate:g}-seed={cfg.seed}-{inputs_id(inputs)}"
        run = RunDirectory(project().root / "models" / name, dict(inputs))
        cfg.paths.run = f"models/{name}"
        run.start(cfg, lambda: record["source"], began)
        for file in (TRACE, PATCH, records.HISTORY, records.PREDICTIONS):
            if (main / file).exists():
                shutil.copyfile(main / file, run.directory / file)
        save_file(tensors, run.directory / records.WEIGHTS, metadata={RUN_KEY: name})
        noise = random.Random(name).gauss
        metrics = {key: value + noise(0, 0.002) for key, value in record["outputs"]["metrics"].items()}
        outputs = record["outputs"] | {"metrics": metrics}
        observed = record["observed"] | {"status": "finished"}
        run.finish(metrics, outputs, inputs={"outside": {}}, environment=record["environment"], observed=observed)
        path = project().root / LOGS / f"{name}.json"
        label = f"seed={cfg.seed} model.optimizer.lr={rate:g}"
        write_state(
            path, RunState(label, label.split(), "local", str(run.directory), str(path.with_suffix(".log")), "finished")
        )
        path.with_suffix(".log").write_text(log)
print(experiments * seeds)
