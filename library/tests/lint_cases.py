"""Lines of code for each rule of `samebits lint`: those that break it, and their innocent twins."""

from __future__ import annotations

HEAD = """
import argparse, glob, os, pathlib, random, secrets, sys, time, uuid
import numpy as np
import pandas as pd
import requests
import samebits
import torch
from concurrent.futures import as_completed
from datetime import datetime
from pathlib import Path
from time import time as now
"""

# of each rule: cases that break it on one line, separated by lines of dashes; then those that do not
BREAKS = {
    "generator": """
class Net:
    def __init__(self):
        self.rng = np.random.RandomState()
---
from numpy.random import default_rng as make
def noise():
    return make(None).normal()
---
R = random.Random(3)
def pick(xs):
    return R.choice(xs)
---
def split(n, rng=np.random.default_rng(0)):
    return rng.permutation(n)
---
loader = lambda data: torch.utils.data.DataLoader(data, generator=torch.Generator())
---
class Crop:
    rng = torch.Generator().manual_seed(3)
---
START = np.random.rand(3)
---
@samebits.stage(config_name="train")
def prepare(cfg):
    random.shuffle(rows)
---
from sklearn.model_selection import train_test_split
@samebits.stage()
def prepare(cfg):
    return train_test_split(rows, test_size=0.2)
""",
    "seed-guard": """
def main(cfg):
    if cfg.get("seed"):
        torch.manual_seed(cfg.seed)
---
def main(seed):
    generator.manual_seed(seed or 42)
---
def main(args):
    rng = random.Random(args.seed) if args.seed else random
---
def main(cfg):
    if not cfg["seed"]:
        raise ValueError
---
def main(random_state, fixed):
    if fixed and random_state:
        pass
""",
    "set-order": """
def vocabulary(text):
    return {word: number for number, word in enumerate(set(text.split()))}
---
def classes(rows):
    found = {row.label for row in rows}
    return [name.lower() for name in found]
---
def classes(rows, known: set[str]):
    for name in known - {"other"}:
        register(name)
---
class Labels:
    def __init__(self, names):
        self.names = frozenset(names)
    def index(self):
        return list(self.names)
---
def one(names):
    waiting = set(names)
    return waiting.pop()
---
def key(names):
    return "-".join({name.upper() for name in names})
---
def shared(a, b):
    return [*(a.keys() & b.keys())]
---
def columns(frame):
    yield from set(frame.columns).difference(["label"])
""",
    "folder-order": """
def images(folder):
    return [path for path in Path(folder).rglob("*.png")]
---
def images(folder):
    names = os.listdir(folder)
    return names[:100]
---
from glob import iglob
def images(folder):
    for name in iglob(folder + "/*.jpg"):
        yield load(name)
---
def classes(folder):
    return {path.name: number for number, path in enumerate(folder.iterdir())}
---
def images(folder):
    found = []
    for root, folders, files in sorted(os.walk(folder)):
        for name in files:
            found.append(name)
    return found
---
def newest(folder):
    return next(folder.glob("*.ckpt"))
---
class Images:
    def __init__(self, folder):
        self.entries = list(os.scandir(folder))
    def __getitem__(self, index):
        return self.entries[index]
""",
    "completion-order": """
def gather(futures):
    return [future.result() for future in as_completed(futures)]
---
def gather(pool, files):
    rows = []
    for row in pool.imap_unordered(read, files):
        rows.append(row)
    return rows
---
import concurrent.futures as cf
def gather(futures):
    for future in cf.as_completed(futures):
        total = total * 2 + future.result()
---
from joblib import Parallel
gather = Parallel(4, return_as="generator_unordered")
""",
    "clock": """
def seed():
    torch.manual_seed(int(now()))
---
def name():
    return datetime.now().strftime("%Y-%m-%d")
---
import datetime as dt
class Net:
    def step(self):
        return dt.datetime.utcnow().microsecond
---
class Net:
    def on_train_epoch_start(self):
        self.began = time.perf_counter()
    def on_train_epoch_end(self):
        self.log("duration", 1.0)
        self.rate = self.began * 2
---
def fit(limit, begin):
    while time.monotonic() - begin < limit:
        step()
---
def newest(paths):
    return max(paths, key=os.path.getmtime)
---
def order(paths):
    return sorted(paths, key=lambda path: path.stat().st_mtime)
---
clock = time.time_ns
def salt():
    return clock() % 97
""",
    "chance": """
def name():
    return f"run-{uuid.uuid4().hex[:8]}"
---
from os import urandom
def noise(n):
    return np.frombuffer(urandom(n), np.uint8)
---
def worker_init(worker):
    np.random.seed(os.getpid() + worker)
---
def start():
    random.seed()
---
def start():
    np.random.seed(None)
---
def pick(xs):
    return secrets.choice(xs)
---
import socket
def shard(files):
    return files[len(socket.gethostname()) :]
---
draw = random.SystemRandom()
""",
    "hash": """
def bucket(word):
    return hash(word) % 1024
---
def split(name):
    return "test" if hash((name, 1)) & 7 == 0 else "train"
---
def order(layers):
    return sorted(layers, key=id)
---
def seed(sample):
    torch.manual_seed(id(sample))
---
def order(names):
    names.sort(key=lambda name: hash(name))
""",
    "outside-read": """
def width():
    return int(os.environ.get("WIDTH", "64"))
---
from os import getenv as ask
FAST = ask("FAST")
---
def is_fast():
    return "FAST" in os.environ
---
MEAN = np.load("/data/mean.npy")
---
ROOT = pathlib.Path(__file__).parent
def words():
    return (ROOT / "words.txt").read_text().split()
---
def table(split):
    return pd.read_csv(f"tables/{split}.csv")
---
def weights():
    with open(os.path.join(os.path.expanduser("~"), "weights.bin"), "rb") as file:
        return file.read()
---
def folds():
    return int(sys.argv[1])
---
def settings():
    return argparse.ArgumentParser().parse_args()
---
def go_on():
    return input("go on? ")
""",
    "network": """
def labels(url):
    return requests.get(url, timeout=9).json()
---
from urllib import request
def raw(url):
    return request.urlopen(url).read()
---
def data(folder):
    return torchvision.datasets.MNIST(folder, download=True)
---
from transformers import AutoModel
def backbone():
    return AutoModel.from_pretrained("bert-base-uncased")
---
import torchvision.models as zoo
def backbone():
    return zoo.resnet18(weights=zoo.ResNet18_Weights.DEFAULT)
---
import timm
def backbone(name):
    return timm.create_model(name, pretrained=True)
---
def backbone():
    return torch.hub.load("pytorch/vision", "resnet50")
---
from sklearn import datasets
def table():
    return datasets.fetch_openml("adult")
""",
    "data-edit": """
def clean(frame):
    frame.to_csv("data/raw/table.csv")
---
def clean(cfg, array):
    np.save(cfg.paths.raw + "/clean.npy", array)
---
def drop(name):
    (Path("data") / "processed" / name).unlink()
---
def scale(path):
    images = np.load(path, mmap_mode="r+")
    images /= 255
---
def note(text):
    with open("data/external/notes.txt", "a") as file:
        file.write(text)
---
@samebits.stage()
def prepare(cfg):
    folder = Path(cfg.paths.raw)
    (folder / "done").write_text("yes")
""",
    "switch": """
torch.backends.cudnn.benchmark = True
---
from torch.backends import cudnn
def fast():
    cudnn.deterministic = False
---
def fast():
    torch.use_deterministic_algorithms(False)
---
from torch import set_float32_matmul_precision as precision
precision("medium")
---
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
---
os.environ.setdefault("OMP_NUM_THREADS", "8")
---
setattr(torch.backends.cuda.matmul, "allow_tf32", True)
""",
}

INNOCENT = {
    "generator": """
class Net:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
---
def split(data):
    generator = torch.Generator()
    generator.manual_seed(0)
    return torch.utils.data.random_split(data, [8, 2], generator)
---
class Net:
    def __init__(self, seed, device):
        self.random = torch.Generator(device=device)
        self.random.manual_seed(seed)
---
TABLE = np.random.default_rng(0).normal(size=(3, 3))
---
class Random:
    pass
def make():
    return Random()
---
def step(x):
    return x + torch.randn(3) * random.random() + np.random.rand()
---
from sklearn.model_selection import KFold, train_test_split
@samebits.stage()
def prepare(cfg):
    np.random.seed(cfg.data.split.seed)
    np.random.shuffle(rows)
    KFold(5)
    return train_test_split(rows, random_state=cfg.data.split.seed)
---
def make(np):
    return np.random.default_rng()
""",
    "seed-guard": """
def main(seed):
    if seed is not None:
        torch.manual_seed(seed)
---
def main(seeds, use_seed):
    if seeds and use_seed:
        pass
---
def main(cfg):
    return cfg.get("seed") or 0
---
def main(seed):
    assert seed >= 0
    return seed if seed > 3 else None
---
def main(cfg):
    if "seed" in cfg and cfg.seed == 0:
        pass
""",
    "set-order": """
def vocabulary(text):
    return {word: number for number, word in enumerate(sorted(set(text.split())))}
---
def known(rows, allowed):
    names = {row.label for row in rows}
    if names - set(allowed) or "other" in names:
        raise ValueError(", ".join(names))
    return len(names)
---
def left(n, taken: list[int]):
    return list(set(range(n)) - set(taken))
---
def check(paths):
    for path in set(paths):
        assert path.exists()
        if path.suffix == ".tmp":
            path.unlink()
---
def classes(rows):
    found = list({row.label for row in rows})
    found.sort()
    return found
---
def lower(names):
    return {name.lower() for name in set(names)}
---
def sizes(rows):
    for size in {len(row) for row in rows}:
        print(size)
    for side in {1, 3, 5}:
        register(side)
---
def first(names):
    (only,) = set(names)
    return only, max(set(names)), any(name.isupper() for name in set(names))
---
def listed(names: dict[str, int]):
    return list(names), [*dict.fromkeys(names)]
---
def set_of(set):
    return list(set([1]))
""",
    "folder-order": """
def images(folder):
    return sorted(path for path in Path(folder).rglob("*.png") if path.is_file())
---
def images(folder):
    names = [name for name in os.listdir(folder) if name.endswith(".png")]
    names.sort()
    return names
---
def images(folder):
    found = []
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            found.append(name)
    return found
---
def images(folder):
    found = []
    for root, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(root, name)
            if path.endswith(".png"):
                found.append(path)
    return sorted(found)
---
def is_there(folder):
    if not any(folder.iterdir()) or len(os.listdir(folder)) < 3:
        raise ValueError
    return "a.png" in os.listdir(folder)
---
def tidy(folder):
    for path in folder.glob("*.tmp"):
        path.unlink()
    (record,) = folder.glob("*/record.json")
    return record, max(glob.glob("*.ckpt"))
---
def _list(folder):
    return list(folder.glob("*.png"))
def images(folder):
    return sorted(_list(folder))
---
class Store:
    def __init__(self, files):
        self.files = files
    def glob(self, text):
        return [name for name in self.files if text in name]
""",
    "completion-order": """
def gather(pool, files):
    return list(pool.map(read, files)) + [future.result() for future in pool.futures]
---
def gather(futures):
    results = [None] * len(futures)
    for future in as_completed(futures):
        results[futures[future]] = future.result()
    return results
---
def gather(futures):
    return sorted(future.result() for future in as_completed(futures))
---
def wait(futures):
    for future in as_completed(futures):
        future.result()
        print("one more")
""",
    "clock": """
def fit(steps):
    started = time.time()
    run(steps)
    print(f"{steps} steps in {time.time() - started:.1f} s")
---
import logging
log = logging.getLogger(__name__)
class Net:
    def on_fit_start(self):
        self.began = now()
    def on_fit_end(self):
        elapsed = round(now() - self.began, 1)
        log.info("took %s s at %s", elapsed, datetime.now().isoformat())
---
def time(time):
    return time.time()
---
def stamp(seconds):
    return time.strftime("%Y", time.gmtime(seconds))
---
def date(text):
    return datetime.strptime(text, "%Y"), datetime(2020, 1, 1), time.sleep(1)
---
def table(frame):
    return frame.time.time(), frame.now()
""",
    "chance": """
def name(seed):
    return uuid.uuid5(uuid.NAMESPACE_URL, f"run-{seed}").hex
---
import logging
def say():
    logging.info("process %s", os.getpid())
---
def start(cfg):
    random.seed(cfg.seed)
    np.random.seed(0)
---
class Generator:
    def seed(self):
        return 3
def start():
    generator = Generator()
    generator.seed()
---
def choose(secrets):
    return secrets.choice([1, 2])
---
def seen():
    return torch.initial_seed(), os.cpu_count()
""",
    "hash": """
import zlib
def bucket(word):
    return zlib.crc32(word.encode()) % 1024
---
class Key:
    def __hash__(self):
        return hash((self.name, self.size))
---
def shared(model, other):
    known = {id(each) for each in other.parameters()}
    return [each for each in model.parameters() if id(each) not in known]
---
def same(a, b):
    return id(a) == id(b) or hash(a) == hash(b)
---
from hashes import hash
def bucket(word):
    return hash(word) % 1024
---
def parity(number):
    return hash(int(number)) % 2
""",
    "outside-read": """
def rank():
    return int(os.environ.get("LOCAL_RANK", 0)), os.environ["SLURM_JOB_ID"], os.getenv("WANDB_API_KEY")
---
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HERE"] = "here"
print(os.environ["HERE"], os.environ.get("USER"))
---
def arrays(directory):
    folder = Path(directory)
    return np.load(folder / "train.npy"), (folder / "words.txt").read_text()
---
def arrays(split):
    return np.load(f"data/processed/{split}.npy")
---
def save(text):
    Path("notes.txt").write_text(text)
    with open("log.txt", "w") as file:
        file.write(text)
---
def table(cfg):
    with open(cfg.data.path) as file:
        return pd.read_csv(file)
---
@samebits.command
def main():
    argparse.ArgumentParser().parse_args()
---
def main():
    print(sys.argv[1:], argparse.ArgumentParser().parse_args())
if __name__ == "__main__":
    main()
---
def open(path):
    return path
open("words.txt")
""",
    "network": """
def first(requests):
    return requests.get("a")
---
def data(folder):
    return torchvision.datasets.MNIST(folder, download=False)
---
from transformers import AutoModel
def backbone(cfg):
    return AutoModel.from_pretrained(cfg.path), AutoModel.from_pretrained("bert", local_files_only=True)
---
import torchvision.models as zoo
def backbone(pretrained):
    return zoo.resnet18(weights=None), timm.create_model("vit", pretrained=pretrained)
---
from datasets import load_dataset
def table(path):
    return load_dataset("csv", data_files=path)
---
from urllib.parse import urlparse
from sklearn.datasets import load_digits
host = urlparse("https://example.org").netloc
""",
    "data-edit": """
def clean(frame):
    frame.to_csv("reports/table.csv")
---
@samebits.stage()
def prepare(cfg):
    processed = Path(cfg.paths.processed)
    np.save(processed / "train.npy", np.load(Path(cfg.paths.raw) / "all.npy"))
    Path("data/processed/notes.txt").write_text("made")
---
def images(path):
    return np.load(path, mmap_mode="r")
---
def read():
    with open("data/raw/table.csv") as file:
        return file.read()
---
def drop(folder, name):
    (folder / name).unlink()
    return name.replace("data/raw", "data/interim")
---
def show(batch):
    batch.raw.save("batch")
""",
    "switch": """
def seen():
    return torch.backends.mps.is_available(), torch.backends.cudnn.benchmark
---
class Net:
    def __init__(self, backends):
        self.backends = backends
        self.backends.cudnn.benchmark = True
---
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
---
torch.set_default_dtype(torch.float32)
torch.set_grad_enabled(True)
---
def threads():
    return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
""",
}


def cases(listed: dict[str, str]) -> list[tuple[str, str]]:
    """Return rule and code of each case."""
    return [(rule, code.strip("\n")) for rule, text in listed.items() for code in text.split("---\n")]
