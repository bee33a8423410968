"""Time one thing that is done with all runs: `read_runs.py records|checked|plan EXPERIMENTS RUNS`; in seconds."""

import os
import sys
import time

from handwritten_digits.config import ROOT
from handwritten_digits.reporting.runs import read_runs
from handwritten_digits.repro import record
from handwritten_digits.sweeping.combinations import combine
from handwritten_digits.sweeping.plan import plan

what, experiments, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(ROOT)
models = ROOT / "models"
rates = ",".join(f"{(each + 1) / 1000:g}" for each in range(experiments))
words = [f"model.optimizer.lr={rates}", f"seed=range(0,{runs // experiments})"]
begin = time.perf_counter()
if what == "records":
    found = [record.read(path.parent) for path in models.glob("*/record.json")]
elif what == "checked":
    found = read_runs(models, [])[0]
else:
    found = plan(combine(words), [])
    assert all(each.finished for each in found)
seconds = time.perf_counter() - begin
assert len(found) in (runs, runs + 1)  # and the published one
print(seconds)
