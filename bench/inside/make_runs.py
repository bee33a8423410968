"""Fill a project with finished runs, all of them copies of its main run: `make_runs.py EXPERIMENTS SEEDS`.

Each has its own settings, id, seal and metrics, so that every check of a record has its work and finds nothing. Beside
them it leaves what a sweep would have noted of them.
"""

import os
import random
import shutil
import sys
from pathlib import Path

os.fsync = lambda descriptor: None  # what is made here is thrown away

from handwritten_digits.config import PACKAGE, ROOT, compose  # noqa: E402
from handwritten_digits.repro import record as records  # noqa: E402
from handwritten_digits.repro.inputs import collect, inputs_id, settings_that_count  # noqa: E402
from handwritten_digits.repro.run import Run  # noqa: E402
from handwritten_digits.repro.source import PATCH  # noqa: E402
from handwritten_digits.repro.traces import TRACE  # noqa: E402
from handwritten_digits.repro.weights import RUN_KEY  # noqa: E402
from handwritten_digits.sweeping.notes import LOGS, Note, write  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

experiments, seeds = map(int, sys.argv[1:])
main = ROOT / "models/main"
record = records.read(main)
tensors = load_file(main / records.WEIGHTS)
cfg = compose()
inputs = collect(cfg, ROOT, PACKAGE, Path(cfg.paths.processed)) | {"origin": record["inputs"]["origin"]}
began = record["observed"]["started"]
log = "".join(f"epoch {epoch}/40\n" for epoch in range(40))
for experiment in range(experiments):
    cfg.model.optimizer.lr = rate = (experiment + 1) / 1000
    for cfg.seed in range(seeds):
        inputs["config"] = settings_that_count(cfg)
        name = f"cnn-lr={rate:g}-seed={cfg.seed}-{inputs_id(inputs)}"
        run = Run(ROOT / "models" / name, dict(inputs))
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
        path = ROOT / LOGS / f"{name}.json"
        label = f"seed={cfg.seed} model.optimizer.lr={rate:g}"
        write(path, Note(label, label.split(), "local", str(run.directory), str(path.with_suffix(".log")), "finished"))
        path.with_suffix(".log").write_text(log)
print(experiments * seeds)
