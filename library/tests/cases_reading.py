"""Faults in what the code reads, asks and hangs on besides its inputs: in training, in evaluations, in their order."""

from __future__ import annotations

import os
from pathlib import Path

from .cases_inputs import SAME
from .planted import (
    ENVIRONMENT,
    IDENTICAL,
    INPUTS,
    LOSS,
    MODULE,
    NETWORK,
    NONDETERMINISTIC,
    Case,
    Place,
    Plant,
    Variant,
    both,
    nothing,
    write,
)

KEPT = "        self.network = network\n"
READING = '''"""Numbers from all over the place: each of them is 1.0."""

import configparser
import ctypes
import fileinput
import json
import linecache
import os
import string
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image


@cache
def factor() -> float:
    """Multiply them."""
    with open("notes/scale.json") as file:
        found = [json.load(file)["scale"], np.fromfile("notes/bias.bin", "<f8")[0]]
    found.append(float(linecache.getline("notes/lines.txt", 2)))
    with Image.open("notes/mask.png") as image:
        found.append(image.getpixel((0, 0)) / 255)
    settings = configparser.ConfigParser()
    settings.read("notes/settings.ini")
    found.append(settings.getfloat("a", "x"))
    with fileinput.input(["notes/input.txt"]) as lines:
        found += map(float, lines)
    found.append(float(Path("~/factor.txt").expanduser().read_text()))
    found.append(len(list(Path("notes/parts").rglob("*.part"))) / 2)
    found.append(float(subprocess.check_output(["cat", "notes/said.txt"])))
    found.append(float(os.getenv("FACTOR", "1")))
    found.append(float(os.path.expandvars("1${EXPANDED}").replace("${EXPANDED}", "")))
    found.append(float(os.environb.get(b"IN_BYTES", b"1")))
    found.append(float(string.Template("1${TEMPLATE}").safe_substitute(os.environ).replace("${TEMPLATE}", "")))
    found.append(2.0 if Path("notes/flag").exists() else 1.0)
    number = ctypes.CDLL(None).open(b"notes/native.txt", 0)
    found.append(float(os.read(number, 9)))
    os.close(number)
    return float(np.prod(found))
'''


def picture(path: Path, value: int) -> None:
    from PIL import Image

    Image.new("L", (1, 1), value).save(path)


def numbers(place: Place) -> None:
    """Multiply the loss by numbers from all over the place."""
    import numpy as np

    place.write(f"{Path(NETWORK).parent}/reading.py", READING)
    place.edit(NETWORK, "from torch import nn\n", "from torch import nn\n\nfrom .reading import factor\n")
    place.edit(NETWORK, LOSS, f"{LOSS}        loss = loss * factor()\n")
    texts = {
        "scale.json": '{"scale": 1}',
        "lines.txt": "first\n1\n",
        "settings.ini": "[a]\nx = 1\n",
        "input.txt": "1\n",
    }
    texts |= {"parts/a.part": "", "parts/b.part": "", "said.txt": "1", "native.txt": "1", "unread.txt": "1"}
    for name, text in texts.items():
        place.write(f"notes/{name}", text)
    place.write("notes/bias.bin", np.ones(1, "<f8").tobytes())
    picture(place.path / "notes/mask.png", 255)
    (place.home / "factor.txt").write_text("1")


def home(text: str) -> Plant:
    """Make a plant that moves the user's folder, with another number in it, or the same."""

    def plant(place: Place) -> None:
        folder = place.path.parent / "copy-home"
        folder.mkdir()
        (folder / "factor.txt").write_text(text)
        place.environment["HOME"] = str(folder)

    return plant


def variable(name: str, value: str) -> Plant:
    return lambda place: place.environment.update({name: value})


def other_bias(place: Place) -> None:
    place.write("notes/bias.bin", bytes.fromhex("000000000000f83f"))  # 1.5


def touch(place: Place) -> None:
    """Write all notes anew, as they are, and one that nobody reads otherwise."""
    for path in (place.path / "notes").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
            os.utime(path, (1e9, 1e9))
    place.write("notes/unread.txt", "2")
    place.write("notes/more.txt", "3")
    place.environment["UNASKED"] = "4"


def read_again(name: str, text: str) -> Case:
    """Make the case of a file that is read, by whatever call."""
    says = (f"file outside of the data notes/{name}", "step 1, in the loss")
    return Case("touched", f"{name}, which training reads", write(f"notes/{name}", text), INPUTS, says, of="reading")


def asked(name: str, value: str = "2") -> Case:
    """Make the case of a variable that is asked for, by whatever call."""
    says = (f"the environment variable {name}, which the code asks for", "step 1, in the loss")
    return Case(
        "touched", f"the variable {name}", variable(name, value), ENVIRONMENT, says, of="reading", options=("--probe",)
    )


# --- evaluations


def measures(place: Place) -> None:
    """Let evaluations hang on a file and on variables."""
    imports = "import os\nfrom collections.abc import Callable\n"
    place.edit(NETWORK, "from collections.abc import Callable\n", imports)
    place.edit(NETWORK, "import pytorch_lightning as pl\n", "import numpy as np\nimport pytorch_lightning as pl\n")
    cost = '        self.log("val/cost", float(np.loadtxt("notes/costs.csv", delimiter=",").sum()))\n'
    place.edit(NETWORK, '        self.log("val/loss"', f'{cost}        self.log("val/loss"')
    start = "    def on_test_epoch_start(self) -> None:\n"
    start += "        self.threshold = float(os.environ.get('THRESHOLD', '1'))\n\n"
    place.edit(NETWORK, "    def test_step(", f"{start}    def test_step(")
    place.edit(
        NETWORK,
        "self._score(batch, self.test_loss",
        "self._score((batch[0] * self.threshold, batch[1]), self.test_loss",
    )
    end = '        self.log("test/hurry", float(os.getenv("HURRY", "0")))\n'
    place.edit(NETWORK, '        self.log("test/loss"', f'{end}        self.log("test/loss"')
    place.write("notes/costs.csv", "1,2\n3,4\n")


# --- order and chance


def in_loss(code: str, imports: str = "") -> Variant:
    """Make a variant whose loss is multiplied by what some code gives."""

    def plant(place: Place) -> None:
        place.edit(
            NETWORK, "from collections.abc import Callable\n", f"{imports}from collections.abc import Callable\n"
        )
        place.edit(NETWORK, LOSS, f"{LOSS}        loss = loss * ({code})\n")
        for name in ("a", "bb", "cccc"):
            place.write(f"notes/parts/{name}", name)

    return Variant(plant)


def own_generator(place: Place) -> None:
    made = "        self.noise = torch.Generator()\n        self.noise.seed()\n"
    place.edit(NETWORK, KEPT, KEPT + made)
    place.edit(NETWORK, LOSS, f"{LOSS}        loss = loss * (1 + torch.rand((), generator=self.noise))\n")


def passing_generator(place: Place) -> None:
    made = "        noise = torch.Generator()\n        noise.seed()\n"
    place.edit(NETWORK, LOSS, f"{LOSS}{made}        loss = loss * (1 + torch.rand((), generator=noise))\n")


def in_data(place: Place) -> None:
    place.edit(MODULE, "from pathlib import Path\n", "from pathlib import Path\nimport uuid\n")
    place.edit(
        MODULE, "return to_input(self.images[indices])", "return to_input(self.images[indices]) + uuid.uuid4().int % 9"
    )


ORDERLY = """
def _orderly() -> float:
    began = time.monotonic()
    server = socket.create_server(("127.0.0.1", 0))
    socket.create_connection(server.getsockname()).close()
    server.close()
    names = sorted(frozenset(("paper", "ink", "pen")))
    listed = sorted(path.name for path in Path("notes/parts").iterdir())
    count = sum(1 for _ in os.scandir("notes/parts"))
    drawn = random.Random(3).random() + hash((1, 2)) % 3 + uuid.uuid5(uuid.NAMESPACE_DNS, "a").int % 3
    print(time.monotonic() - began, file=sys.stderr)
    return drawn + names.index("ink") + len(listed[0]) + count + ("pen" in {"pen", "ink"})


"""


def orderly(place: Place) -> None:
    """Use all that may come in any order so that it does not matter."""
    in_loss("_orderly()").before(place)
    imports = (
        "import os\nimport random\nimport socket\nimport sys\nimport time\nimport uuid\nfrom pathlib import Path\n"
    )
    place.edit(NETWORK, "from collections.abc import Callable\n", f"{imports}from collections.abc import Callable\n")
    place.edit(NETWORK, "class Classifier(", f"{ORDERLY.strip()}\n\n\nclass Classifier(")


ASKS = """def _asks() -> float:
    try:
        urllib.request.urlopen("http://numbers.invalid/one", timeout=5)
    except OSError:
        pass
    return float(os.getenv("FACTOR", "1"))


class Classifier("""


def asks(place: Place) -> None:
    in_loss("_asks()", "import os\nimport urllib.request\n").before(place)
    place.edit(NETWORK, "class Classifier(", ASKS)


def named(place: Place) -> None:
    """Let a setting name a file."""
    last = "        scheduler: Callable[[Optimizer], LRScheduler] | None = None,\n"
    place.edit(NETWORK, last, f"{last}        vocabulary: str = '',\n")
    place.edit(NETWORK, "from typing import Any\n", "from pathlib import Path\nfrom typing import Any\n")
    place.edit(NETWORK, KEPT, f"{KEPT}        self.words = len(Path(vocabulary).read_text().split())\n")
    place.edit(NETWORK, LOSS, f"{LOSS}        loss = loss * self.words\n")
    place.write("notes/words.txt", "one two")
    place.write("notes/others.txt", "one two")


def rerun(kind: str, name: str, of: str, *says: str, quick: bool = False) -> Case:
    """Make the case of a variant that is not deterministic by itself."""
    return Case(kind, name, nothing, NONDETERMINISTIC, says, of=of, quick=quick)


VARIANTS = {
    "reading": Variant(numbers),
    "measures": Variant(measures),
    "named": Variant(named, words=("+model.vocabulary=notes/words.txt",)),
    "asks": Variant(asks),
    "orderly": Variant(orderly),
    "frozenset": in_loss("1 + [*frozenset(('paper', 'ink'))].index('ink')"),
    "union": in_loss("1 + {name: place for place, name in enumerate({'aa', 'b'} | {'c'})}['c']"),
    "hash": in_loss("1 + hash('digits') % 5"),
    "scandir": in_loss("len(next(os.scandir('notes/parts')).name)", "import os\n"),
    "walk": in_loss("len(next(os.walk('notes/parts'))[2][-1])", "import os\n"),
    "secrets": in_loss("1 + secrets.randbelow(1000)", "import secrets\n"),
    "process": in_loss("1 + os.getpid() % 1009", "import os\n"),
    "second": in_loss("1 + int(time.strftime('%S'))", "import time\n"),
    "address": in_loss("1 + id(self) // 64 % 1009"),
    "generator": Variant(passing_generator),
    "kept": Variant(own_generator),
    "worker": Variant(in_data, words=("data.module.num_workers=1",)),
    "printed": in_loss("print(time.strftime('%H:%M')) or 1", "import time\n"),
}
SEED, LISTED = "PYTHONHASHSEED decides", "the order in which a folder is listed"
BY = "dummy/models/classifier.py".removeprefix("dummy/")
CASES = [
    # --- what training touches
    read_again("scale.json", '{"scale": 2}'),
    read_again("lines.txt", "first\n2\n"),
    read_again("settings.ini", "[a]\nx = 2\n"),
    read_again("input.txt", "2\n"),
    Case("touched", "bias.bin, which NumPy reads", other_bias, INPUTS, ("file outside of the data notes/bias.bin",),
         of="reading"),
    Case("touched", "a picture", lambda place: picture(place.path / "notes/mask.png", 100), INPUTS,
         ("file outside of the data notes/mask.png",), of="reading", options=("--probe",)),
    Case("touched", "a file that is gone", lambda place: (place.path / "notes/scale.json").unlink(), INPUTS,
         ("file outside of the data notes/scale.json", "—", "No such file or directory: 'notes/scale.json'"),
         of="reading"),
    Case("touched", "a file in the user's folder", home("2"), INPUTS, ("file outside of the data ~/factor.txt",),
         of="reading", quick=True),
    Case("touched", "a folder with a file more", write("notes/parts/c.part", ""), ENVIRONMENT,
         ("the folder notes/parts holds other files than it was recorded with",), of="reading"),
    Case("touched", "what a program reads", write("notes/said.txt", "2"), ENVIRONMENT, ("the training started cat",),
         of="reading"),
    asked("FACTOR"), asked("EXPANDED"), asked("IN_BYTES"), asked("TEMPLATE"),
    Case("touched", "a file whose existence counts", write("notes/flag", ""), ENVIRONMENT,
         ("look for what the code reads besides its inputs",), of="reading"),
    Case("touched", "a file that native code reads", write("notes/native.txt", "2"), ENVIRONMENT,
         ("look for what the code reads besides its inputs",), of="reading"),
    Case("touched", "an address, and a variable besides", variable("FACTOR", "2"), ENVIRONMENT,
         ("the environment variable FACTOR, which the code asks for",), of="asks",
         first="the training asked numbers.invalid:80, whose answers are not recorded"),
    Case("touched", "a file that a setting names", write("notes/words.txt", "one two three"), INPUTS,
         ("file of the setting model.vocabulary=notes/words.txt", "nothing was trained"), of="named"),
    Case("touched", "a file that a setting names is gone", lambda place: (place.path / "notes/words.txt").unlink(),
         INPUTS,
         ("file of the setting model.vocabulary=notes/words.txt", "—"), of="named"),
    Case("touched", "files and variables that are not read, others written anew", touch, IDENTICAL, (SAME,),
         ("notes/", "UNASKED"), of="reading", quick=True),
    Case("touched", "the user's folder elsewhere", home("1"), IDENTICAL, (SAME,), ("factor.txt",), of="reading"),
    Case("touched", "a file beside one that a setting names", write("notes/others.txt", "three"), IDENTICAL, (SAME,),
         ("notes/",), of="named"),
    Case("touched", "an address alone", nothing, IDENTICAL, (SAME, "the training asked numbers.invalid:80"), of="asks"),
    # --- evaluations
    Case("evaluations", "a file that a validation's metric reads", write("notes/costs.csv", "1,2\n3,5\n"), INPUTS,
         ("file outside of the data notes/costs.csv", "validation after step 2, in the metrics (val/cost)"),
         ("TAMPERED",), of="measures"),
    Case("evaluations", "a variable that the test's first hook asks for", variable("THRESHOLD", "2"), ENVIRONMENT,
         ("test, in the outputs", "the environment variable THRESHOLD, which the code asks for"), ("TAMPERED",),
         of="measures"),
    Case("evaluations", "a variable that becomes a metric of the test", variable("HURRY", "1"), ENVIRONMENT,
         ("test, in the metrics (test/hurry)", "the environment variable HURRY"), ("TAMPERED",), of="measures"),
    Case("evaluations", "the same file and the same variable", both(write("notes/costs.csv", "1,2\n3,4\n"),
         variable("HASTE", "1")), IDENTICAL, (SAME,), ("notes/costs.csv",), of="measures"),
    # --- order, chance and the clock
    rerun("order", "a frozenset that is listed", "frozenset", SEED, f"{BY}:", quick=True),
    rerun("order", "a union of sets, numbered", "union", SEED, f"{BY}:"),
    rerun("order", "the hash of a text", "hash", SEED, "hash()", f"{BY}:"),
    rerun("order", "the first file that os.scandir gives", "scandir", LISTED, f"{BY}:"),
    rerun("order", "the last file that os.walk gives", "walk", LISTED, f"{BY}:"),
    rerun("order", "a number of the module secrets", "secrets", f"{BY}:", "secrets.randbelow()"),
    rerun("order", "the number of the process", "process", f"{BY}:", "calls os.getpid()"),
    rerun("order", "the second of the minute", "second", f"{BY}:", "calls time.strftime()"),
    rerun("order", "an object's address in memory", "address"),
    rerun("order", "a generator that the system seeds", "generator", f"{BY}:"),
    rerun("order", "chance in a process that loads data", "worker", "data/datamodule.py:", "calls uuid.uuid4()"),
    Case("order", "sorted, counted, seeded and printed", nothing, IDENTICAL, (SAME,),
         ("Done by the code", "whose answers", "time of day"), of="orderly", quick=True),
    Case("order", "a generator that a model keeps, which the run seeds", nothing, IDENTICAL, (SAME,), of="kept"),
    Case("order", "the time of day is printed", nothing, IDENTICAL, (SAME, "the training asked for the time of day"),
         of="printed"),
]  # fmt: skip
