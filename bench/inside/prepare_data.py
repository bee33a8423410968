"""Fetch and prepare once more, imports not counted; print the seconds of both, and the peak of memory in bytes."""

import shutil
import time
from pathlib import Path

import memory
import sklearn.model_selection  # noqa: F401
from handwritten_digits.data.prepare import prepare
from samebits.engine.config import compose
from samebits.fetch import fetch

cfg = compose()
for folder in (cfg.paths.raw, cfg.paths.processed):
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir()
begin = time.perf_counter()
fetch(cfg)
middle = time.perf_counter()
prepare(cfg)
print(middle - begin, time.perf_counter() - middle, memory.own)
