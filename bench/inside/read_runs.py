"""Time one thing that is done with all runs: `read_runs.py records|checked|plan EXPERIMENTS RUNS`; in seconds."""

import os
import sys
import time

from samebits import project
from samebits.engine import record
from samebits.report.runs import read_runs
from samebits.sweep.plan import combine, plan_runs

what, experiments, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(project().root)
models = project().root / "models"
rates = ",".join(f"{(each + 1) / 1000:g}" for each in range(experiments))
words = [f"model.optimizer.lr={rates}", f"seed=range(0,{runs // experiments})"]
begin = time.perf_counter()
if what == "records":
    found = [record.read_record(path.parent) for path in models.glob("*/record.json")]
elif what == "checked":
    found = read_runs(models, [])[0]
else:
    found = plan_runs(combine(words), [])
    assert all(each.finished for each in found)
seconds = time.perf_counter() - begin
assert len(found) in (runs, runs + 1)  # and the published one
print(seconds)
