"""Where code asks for what is not written down: the time, true randomness, files and variables that are no inputs."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ENGINE = {  # of the package: what these ask is only shown, or asked before a training
    *("repro", "verdicts", "build.py", "cli.py", "compare.py", "config.py", "evaluate.py", "predict.py"),
    *("recording.py", "saved.py", "show.py", "train.py", "trainer.py", "usage.py", "verify.py"),
}
ALWAYS = (
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "os.urandom",
    "os.getpid",
    "random.SystemRandom",
    "SystemRandom",
    "uuid.uuid1",
    "uuid.uuid4",
    "secrets.token_bytes",
    "secrets.token_hex",
    "secrets.randbelow",
    "secrets.randbits",
    "torch.seed",
    "socket.gethostname",
    "platform.node",
)
READS = (  # outside of data/, where reading is meant
    "open",
    "read_text",
    "read_bytes",
    "getenv",
    "np.load",
    "np.loadtxt",
    "torch.load",
    "read_csv",
    "urlopen",
    "requests.get",
)
WITHOUT_ARGUMENTS = ("default_rng", "RandomState", "random.seed", "Random", "generator.seed")


def find(package: Path, others: Iterable[Path] = ()) -> list[str]:
    """List such calls in the package and in other files, as `models/network.py:31 calls time.time()`."""
    files = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in ENGINE]
    found = []
    for path in (*sorted(files), *others):
        name = path.relative_to(package).as_posix() if path.is_relative_to(package) else path.name
        try:
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        except (SyntaxError, UnicodeDecodeError, OSError):
            continue
        reads = () if name.startswith("data/") else READS
        for node in nodes:
            if isinstance(node, ast.Call) and _suspect(node, reads):
                found.append(f"{name}:{node.lineno} calls {ast.unparse(node.func)}()")
            elif reads and isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ":
                found.append(f"{name}:{node.lineno} reads os.environ")
    return found


def _suspect(call: ast.Call, reads: Iterable[str]) -> bool:
    name = f".{ast.unparse(call.func)}"
    without = not call.args and not call.keywords and name.endswith(WITHOUT_ARGUMENTS)
    return without or any(name.endswith(f".{each}") for each in (*ALWAYS, *reads))
