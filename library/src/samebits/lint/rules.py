"""The rules of `samebits lint`: what each looks for, its reason, its mend, and its check of a parsed file."""

from __future__ import annotations

import ast
import re
from collections import namedtuple
from collections.abc import Iterator
from pathlib import PurePosixPath

from .source import Source, calls, is_plain, keyword, method_of, text_of

Rule = namedtuple("Rule", "name what reason mend")  # what it looks for, why, and what to do instead
TABLE = """
generator | random generators without a seed, or kept by a module or class; draws before anything is seeded |
  no seed gives these numbers again; a resumed run draws others, as checkpoints hold what objects keep |
  seed it from the settings and keep it in an attribute, or draw from the global ones while training
seed-guard | `if seed:`, `seed or 42` | 0 is a seed, too, and is taken for none | write `if seed is not None`
set-order | sets of texts or objects that are iterated, listed, or popped from |
  each start of Python hashes texts otherwise, so the order is another one |
  put sorted(...) around the set, or use a list or dict.fromkeys(...)
folder-order | os.listdir, os.walk, os.scandir, glob, iterdir, rglob that nobody sorts |
  the file system chooses the order, and a copy of the folder has another one | put sorted(...) around it
completion-order | as_completed, imap_unordered | whichever task ends first comes first |
  take the results in the order of the tasks: executor.map, or one future after the other
clock | the time, or a file's time, used for more than a message | no other run starts at that moment |
  make it a setting, or count steps and epochs; only print or log as text how long something took
chance | uuid4, secrets, os.urandom, random.seed() without a number; numbers of processes, names of hosts |
  they are others in every process, and no seed governs them | draw from a seeded generator, or derive it from settings
hash | hash() and id() used as a number or to sort by | each start of Python hashes texts otherwise, and puts objects
  elsewhere | use zlib.crc32 or hashlib on bytes, or a name that the object has
outside-read | environment variables, command lines, input() and files at fixed places outside of the data |
  they change the result, and are neither in the settings nor in the run's name |
  make it a setting in configs/ (a path that a setting names is hashed), or put the file with the data
network | requests, urllib, hubs, download=True, pretrained weights by name |
  a server gives something else tomorrow, or nothing |
  fetch it once as data (configs/data/ lists files with their sha256), and name its path in the settings
data-edit | writing to data/ other than in a stage of the pipeline; arrays mapped for writing |
  the data are not what the run was named after, nor what the code makes of the raw data |
  leave raw data as they are; write what you make of them in the stage `prepare`, or work on a copy
switch | torch.backends, deterministic algorithms, threads and precision set by hand |
  it undoes what `determinism` pins, for whatever runs after it |
  choose determinism=portable, native, gpu or off, or set determinism.* in configs/
"""
ROWS = [re.split(r" \| ?", row) for row in TABLE.strip().replace("\n  ", " ").splitlines()]
RULES = {name: Rule(name, what, reason, mend) for name, what, reason, mend in ROWS}
Places = Iterator[tuple[str, ast.AST, str]]  # a rule, an expression that breaks it, and what it does

GENERATORS = r"numpy\.random\.(default_rng|RandomState|Generator|PCG64)|random\.Random|torch\.Generator"
RESEEDS = r"(random|numpy\.random|torch|torch\.random|torch\.cuda)\.(manual_)?seed(_all)?"
DRAWS = r"torch\.(rand\w*|normal|bernoulli)|(numpy\.)?random\.(?!(get|set)_?state|default_rng|seed)[a-z_]+"
SEEDING = ("manual_seed", "seed", "set_state", "setstate")
SPLITS = r"sklearn\.\w+\.(train_test_split|\w*ShuffleSplit|Repeated\w+|shuffle|resample)"
SEED = r"""([\w.()'"[\]]*[.'"])?(seed|(random|rng|global|base|manual)_seed|random_state)(['"][\])])?"""
LISTINGS = r"os\.(listdir|scandir|walk)|glob\.i?glob|pathlib\..*\.(iterdir|r?glob)"
UNORDERED = r"(concurrent\.futures|asyncio)\.as_completed|ray\.wait"
CLOCKS = (
    r"time\.(((thread_|process_)?time|monotonic|perf_counter)(_ns)?|strftime)|\.st_[mca]time(_ns)?"
    r"|datetime\.(datetime\.(now|utcnow|today)|date\.today)|os\.path\.get[mca]time|pandas\.Timestamp\.(utc)?(now|today)"
)
CHANCE = (
    r"os\.(urandom|getrandom|getp?pid)|uuid\.uuid[14]|random\.SystemRandom(\.random)?|secrets\.\w+|platform\.node"
    r"|threading\.get_(native_)?ident|multiprocessing\.current_process|socket\.(gethostname|getfqdn)"
)
HARMLESS = r"\w*RANK|WORLD_SIZE|MASTER_\w+|HOME|PATH|(SLURM|WANDB|RAY|TQDM)_\w+|\w*(TOKEN|API_KEY|PASSWORD|SECRET)|TERM"
READERS = r"(?!torch\.hub|datasets|evaluate)[\w.]+\.(open|(load|genfrom)(txt)?|memmap|(read|scan)_\w+|imread|\w*File)"
JOINS = r"builtins\.str|os\.fspath|os\.path\.(join|abspath|expanduser|realpath|dirname)|pathlib\.Path"
CLIENTS = (
    r"(requests|httpx)\.(get|post|put|head|request|stream|[Ss]ession|(Async)?Client)|urllib\.request\.url\w+"
    r"|(urllib3|wget|gdown|boto3|kagglehub|ftplib|tensorflow_datasets|http\.client)\.\w+"
    r"|evaluate\.load|torch\.hub\.\w*load\w*|(huggingface_hub|torchvision\.datasets\.utils)\.\w*download\w*"
    r"|aiohttp\.ClientSession|datasets\.load_dataset|sklearn\.datasets\.fetch_\w+"
)
WRITERS = r"save\w*|remove|unlink|rmdir|rmtree|truncate|to_\w+|tofile"  # given a path, or a path's methods
TO_SECOND = r"shutil\.(move|copy\w*)|os\.(rename|replace)|(torch|joblib|safetensors\.torch)\.(save|dump)\w*"
ON_PATH = r"write_text|write_bytes|unlink|rename|replace|rmdir|touch"
SWITCHES = r"torch\.(use_deterministic\w+|set_(num|float|det|flush)\w+|backends\..*\.(set_\w+|enable_\w+|flags))"
PINNED = r"torch\.backends\..*|CUBLAS_WORKSPACE_CONFIG|PYTHONHASHSEED|(OMP|MKL|ATEN|ONEDNN|DNNL)_\w+"
SETTERS = ("os.environ.setdefault", "os.putenv", "builtins.setattr")


def _generators(source: Source) -> Places:
    seeded = {ast.unparse(each.func) for each in source.calls if each.args}
    used = {each.id for each in source.nodes if isinstance(each, ast.Name) and source.function(each)}
    libraries = {name.rpartition(".")[0] for name in map(source.called, source.calls) if re.fullmatch(RESEEDS, name)}
    for call in source.calls:
        name, parent, state = source.called(call), source.parent[call], keyword(call, "random_state")
        if re.fullmatch(GENERATORS, name):
            is_chained = getattr(parent, "attr", "") == "manual_seed"  # which returns it
            parent = source.parent[source.parent[parent]] if is_chained else parent
            kept = ast.unparse(getattr(parent, "targets", [parent])[0])
            is_outside = isinstance(parent, ast.Assign) and source.function(call) is None
            is_outside &= kept in used or isinstance(source.parent.get(parent), ast.ClassDef)
            if not is_chained and (name == "torch.Generator" or _unseeded(call)):
                if not any(f"{kept}.{method}" in seeded for method in SEEDING):
                    yield "generator", call, f"{calls(call)} without a seed"
            elif is_outside or isinstance(parent, ast.arguments):
                yield "generator", call, f"keeps the generator of {ast.unparse(call.func)}() where no checkpoint looks"
            continue
        of_table = method_of(call) == "sample" and (keyword(call, "frac") or keyword(call, "n"))
        splits = (of_table or re.fullmatch(SPLITS, name)) and is_plain(state, None)
        at_import = source.function(call) is None and not source.is_program
        is_seeded = not at_import and ("numpy.random" if splits else name.rpartition(".")[0]) in libraries
        draws = splits or (re.fullmatch(DRAWS, name) and not keyword(call, "generator"))
        if draws and (at_import or (source.is_stage and not is_seeded)):
            yield "generator", call, f"{calls(call)}, unseeded, {'at import' if at_import else 'in a stage'}"


def _unseeded(call: ast.Call) -> bool:
    """Whether a call that takes a seed is given none; `*arguments` may hold one."""
    return all(is_plain(each, None) for each in [*call.args, *(x.value for x in call.keywords if x.arg != "device")])


def _seed_guards(source: Source) -> Places:
    for node in source.nodes:
        test = getattr(node, "test", getattr(node, "operand", None))
        tests = test.values if isinstance(test, ast.BoolOp) else [test]
        tests = node.values[:-1] if isinstance(node, ast.BoolOp) and not is_plain(node.values[-1], 0) else tests
        for each in filter(None, tests):
            told = ast.unparse(each.value if isinstance(each, ast.NamedExpr) else each)
            if re.fullmatch(SEED, told) and not isinstance(getattr(node, "op", None), ast.USub):
                yield "seed-guard", each, f"takes the seed {told} for none where it is 0"


def orders(source: Source) -> Places:
    """List where the order of a set, a folder, or of tasks is used."""
    for node in source.nodes:
        if source.is_set(node) and node not in source.stores and (how := source.ordered(node)):
            text = ast.unparse(node)
            yield "set-order", node, f"{how} the set {text if len(text) <= 40 else text[:37] + '...'}"
    for call in source.calls:
        name, method = source.called(call), method_of(call)
        is_folder = re.fullmatch(LISTINGS, name) or (not name and method in ("iterdir", "rglob", "glob"))
        if (is_folder or method == "imap_unordered" or re.fullmatch(UNORDERED, name)) and source.ordered(call, "takes"):
            yield "folder-order" if is_folder else "completion-order", call, calls(call)


def _moments(source: Source) -> Places:
    for node, call, what in source.mentions(CLOCKS):
        above = node  # of a moment, and of a time from one moment to another
        while " - " in ast.unparse(parent := source.parent[above]) and isinstance(parent, ast.BinOp | ast.Call):
            above = parent
        is_begin = source.function(node) and isinstance(parent, ast.Assign)  # as a rule, for a message
        if not (is_begin or source.said(node) or (call and len(call.args) > 1)):  # strftime("%Y", time) converts
            yield "clock", node, what
    yield from (("chance", node, what) for node, _, what in source.mentions(CHANCE) if not source.said(node))
    for node, call, what in source.mentions(RESEEDS):
        if call and _unseeded(call):
            yield "chance", node, f"{what} without a seed"


def _hashes(source: Source) -> Places:
    for node, call, what in source.mentions(r"builtins\.(hash|id)"):
        parent, above = source.parent[node], list(source.above(node))
        as_key = any(isinstance(each, ast.keyword) and each.arg == "key" for each in above)
        free = isinstance(parent, ast.Compare) or any(getattr(each, "name", "") == "__hash__" for each in above)
        as_number = isinstance(parent, ast.BinOp) or method_of(parent) in SEEDING or not what.endswith("id()")
        if as_key or (call and as_number and not (free or any(map(source.is_number, call.args)) or source.said(node))):
            yield "hash", node, what


def _reads(source: Source) -> Places:
    stored = {ast.unparse(each.slice) for each in source.stores if isinstance(each, ast.Subscript)}
    for node, call, what in source.mentions(r"os\.(environ(\.get|\.items)?|getenv)|builtins\.input"):
        parent = source.parent[node]
        key = call.args[0] if call and call.args else getattr(parent, "slice", getattr(parent, "left", None))
        if what.endswith((" input()", ".items()")):
            yield "outside-read", node, what
        elif key and not (ast.unparse(key) in stored or source.said(parent) or re.fullmatch(HARMLESS, text_of(key))):
            yield "outside-read", node, f"reads the environment variable {text_of(key) or ast.unparse(key)}"
    for call in source.calls:
        given = (
            [*call.args, *(each.value for each in call.keywords)] if re.fullmatch(READERS, source.called(call)) else []
        )
        on_path = method_of(call) in ("read_text", "read_bytes", "open") and not given
        path = call.func.value if on_path else next(iter(given), "")  # type: ignore[attr-defined]
        if (start := _path(source, path)) and not _mode(source, call, "wax") and not _in_data(source, start):
            yield "outside-read", call, f"{calls(call)} at a fixed place"
    for node, _, what in source.mentions(r"sys\.(argv|stdin(\.read)?)|argparse\.ArgumentParser"):
        decorators = [x for each in source.above(node) for x in getattr(each, "decorator_list", [])]
        if source.is_training or not (source.is_program or "samebits.command" in map(source.name, decorators)):
            yield "outside-read", node, what


def _mode(source: Source, call: ast.Call, letters: str) -> bool:
    """Whether a file is opened in a mode that has some of the letters."""
    given = [*call.args[bool(source.called(call)) :], keyword(call, "mode"), keyword(call, "mmap_mode")]
    return any(re.fullmatch(r"[rwaxbt+]{1,3}", text_of(each)) and set(text_of(each)) & set(letters) for each in given)


def _in_data(source: Source, path: str) -> bool:
    return any(PurePosixPath(path.removeprefix("./")).is_relative_to(folder) for folder in source.data)


def _path(source: Source, node: ast.AST | str, depth: int = 0) -> str:
    """Return a path as far as it is written in the code; "" for one that is not."""
    if isinstance(node, str) or depth > 20:
        return ""
    if isinstance(node, ast.Call):
        given = node.args if re.fullmatch(JOINS, source.called(node)) else []
        if method_of(node) in ("resolve", "joinpath", "absolute"):
            given = [node.func.value, *node.args]  # type: ignore[attr-defined]
        parts = [_path(source, each, depth + 1) for each in given]
        return "/".join([parts[0], *(each or "..." for each in parts[1:])]) if any(parts[:1]) else ""
    if isinstance(node, ast.JoinedStr):
        return text if "/" in (text := text_of(next(iter(node.values), None))) else ""
    if isinstance(node, ast.BinOp):
        start = _path(source, node.left, depth + 1)
        return start and start + "/" * isinstance(node.op, ast.Div) + (text_of(node.right) or "...")
    if isinstance(node, ast.Attribute) and node.attr in ("raw", "external") and "paths" in ast.unparse(node.value):
        return f"{source.data[0]}/{node.attr}"
    if isinstance(node, ast.Subscript) or getattr(node, "attr", "") in ("parent", "parents"):
        return "." * bool(_path(source, node.value, depth + 1))  # type: ignore[attr-defined]
    starts = [_path(source, value, depth + 1) for value in source.values(node)]
    return text_of(node) or (starts[0] if starts and all(starts) else "." * (source.name(node) == "builtins.__file__"))


def _network(source: Source) -> Places:
    for call in source.calls:
        name, given = source.called(call), ast.unparse(call.args[0]) if call.args else ""
        is_local = keyword(call, "local_files_only") or re.fullmatch(r"'(csv|json|parquet|text|\w+folder)'", given)
        by_name = method_of(call) == "from_pretrained" and re.match(r"'[^./]", given)
        options = [each for each in ("download", "pretrained") if is_plain(keyword(call, each), True)]
        weights = keyword(call, "weights") if name.startswith("torchvision.models") else None
        options += ["weights"] if text_of(weights) or getattr(weights, "attr", "").isupper() else []
        if options or ((by_name or re.fullmatch(CLIENTS, name)) and not is_local):
            yield "network", call, calls(call) + f" with {''.join(options[:1])}" * bool(options)


def _data_edits(source: Source) -> Places:
    for call in source.calls:
        name, method, opens = source.called(call), method_of(call), _mode(source, call, "wax+")
        to_first = re.fullmatch(WRITERS, name.rpartition(".")[2] or method) or (re.fullmatch(READERS, name) and opens)
        written = call.args[1:2] if re.fullmatch(TO_SECOND, name) else call.args[:1] if to_first else []
        if (re.fullmatch(ON_PATH, method) and len(call.args) < 2) or (method == "open" and opens):
            written = [*written, call.func.value]  # type: ignore[attr-defined]
        paths = [path for each in written if _in_data(source, path := _path(source, each))]
        if re.fullmatch(r"numpy\..*(load|memmap)", name) and _mode(source, call, "+") and not _mode(source, call, "w"):
            yield "data-edit", call, f"{calls(call)} for writing (mode 'r+')"
        elif any(not source.is_stage or "raw" in PurePosixPath(path).parts for path in paths):
            yield "data-edit", call, f"{calls(call)} on the data"


def _switches(source: Source) -> Places:
    for node in source.nodes:
        target: ast.AST | None = node if isinstance(node, ast.Attribute) and node in source.stores else None
        if isinstance(node, ast.Subscript) and node in source.stores and source.name(node.value) == "os.environ":
            target = node.slice
        elif isinstance(node, ast.Call) and node.args and source.called(node) in SETTERS:
            target = node.args[0]
        elif isinstance(node, ast.Call) and re.fullmatch(SWITCHES, source.called(node)):
            yield "switch", node, calls(node)
        if target and re.fullmatch(PINNED, text_of(target) or source.name(target)):
            yield "switch", node, f"sets {text_of(target) or ast.unparse(target)}"


CHECKS = (_generators, _seed_guards, orders, _moments, _hashes, _reads, _network, _data_edits, _switches)
