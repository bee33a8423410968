"""Rules about chance, order and clocks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .flow import Flow, is_single
from .syntax import BUILTIN, Place, calls, is_constant, keyword, method_of, text_of, unseeded, words

# --- generators and seeds

SEEDED = words(
    "numpy.random: default_rng RandomState SeedSequence PCG64 MT19937 Philox SFC64 PCG64DXSM", "random: Random"
)
GENERATORS = SEEDED | words("torch: Generator", "numpy.random: Generator")
SEEDING = {"manual_seed", "seed", "set_state", "setstate", "bit_generator"}
SPLITS = words(
    "sklearn.model_selection: train_test_split ShuffleSplit StratifiedShuffleSplit GroupShuffleSplit RepeatedKFold"
    " RepeatedStratifiedKFold KFold StratifiedKFold StratifiedGroupKFold",
    "sklearn.utils: shuffle resample",
)
NO_DRAWS = {"seed", "getstate", "setstate", "get_state", "set_state", "default_rng", "mtrand", "bit_generator"}
DRAWS = words("torch: rand randn randint randperm normal bernoulli multinomial rand_like randn_like randint_like")


def generator(source: Flow) -> Iterator[Place]:
    """List unseeded generators, those that no checkpoint holds, and draws before anything is seeded."""
    for call in source.calls:
        name = source.called(call)
        if name in GENERATORS:
            if (unseeded(call) or name == "torch.Generator") and not _seeded_later(source, call):
                yield call, f"{calls(call)} without a seed"
            elif place := _kept_at(source, call):
                yield call, f"keeps the generator of {ast.unparse(call.func)}() in {place}"
    for node, _, what in source.mentions(SEEDED):
        if isinstance(parent := source.parent[node], ast.keyword) and parent.arg == "default_factory":
            yield node, f"{what} without a seed"
    libraries = {source.called(call).rpartition(".")[0] for call in source.calls if _seeds(source, call)}
    for call in source.calls:
        drawn = _draws(source, call)
        at_import = source.function(call) is None and not _is_main(source, call)
        if drawn and (at_import or (source.is_stage and drawn not in libraries)):
            yield call, f"{calls(call)} {'while the file is imported' if at_import else 'in a stage'}, unseeded"


def _seeds(source: Flow, call: ast.Call) -> bool:
    return source.called(call) in words("random: seed", "numpy.random: seed", "torch: manual_seed") and bool(call.args)


def _draws(source: Flow, call: ast.Call) -> str:
    """Return the library from whose global generator a call draws, or ""."""
    name = source.called(call)
    library, _, function = name.rpartition(".")
    if name in SPLITS:
        state = keyword(call, "random_state")
        shuffled = keyword(call, "shuffle")
        plain = is_constant(shuffled, False) or (shuffled is None and name.endswith("KFold") and "Repeated" not in name)
        return "" if plain or (state is not None and not is_constant(state, None)) else "numpy.random"
    if library in ("random", "numpy.random"):
        return library if function.islower() and function not in NO_DRAWS else ""
    if method_of(call.func) == "sample" and (keyword(call, "frac") or keyword(call, "n")):  # rows of a table
        return "" if keyword(call, "random_state") else "numpy.random"
    return "torch" if name in DRAWS and keyword(call, "generator") is None else ""


def _is_main(source: Flow, node: ast.AST) -> bool:
    tests = (each.test for each in source.above(node) if isinstance(each, ast.If))
    return any("__main__" in ast.unparse(test) for test in tests)


def _seeded_later(source: Flow, call: ast.Call) -> bool:
    parent = source.parent[call]
    if isinstance(parent, ast.Attribute):
        return parent.attr in SEEDING and bool(getattr(source.parent[parent], "args", ()))
    targets = parent.targets if isinstance(parent, ast.Assign) else [getattr(parent, "target", parent)]
    uses = [use for each in targets if (kept := source.variable(each)) for use in source.loaded[kept]]
    followed = [(source.parent[use], source.parent[source.parent[use]]) for use in uses]
    return any(
        isinstance(at, ast.Attribute) and at.attr in SEEDING and isinstance(then, ast.Call) and bool(then.args)
        for at, then in followed
    )


def _kept_at(source: Flow, call: ast.Call) -> str:
    """Say where a generator is kept that no object holds, or return ""."""
    parent = source.parent[call]
    if isinstance(parent, ast.arguments):
        return "a default argument"
    if isinstance(parent, ast.Attribute):  # .manual_seed(0), which returns it
        chained = source.parent[parent]
        if parent.attr != "manual_seed" or not isinstance(chained, ast.Call):
            return ""
        return _kept_at(source, chained)
    targets = parent.targets if isinstance(parent, ast.Assign) else [getattr(parent, "target", None)]
    for target in targets:
        kept = source.variable(target) if isinstance(target, ast.Name) else None
        if kept and isinstance(kept[0], ast.ClassDef):
            return "a class"
        if kept and isinstance(kept[0], ast.Module) and any(map(source.function, source.loaded[kept])):
            return "a module"
    return ""


SEED_NAMES = {"seed", "random_seed", "rng_seed", "random_state", "global_seed", "base_seed", "manual_seed"}


def seed_guard(source: Flow) -> Iterator[Place]:
    """List seeds whose truth is asked."""
    tests: list[ast.expr] = []
    for node in source.nodes:
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
            tests.append(node.test)
        elif isinstance(node, ast.BoolOp):
            tests += [] if is_constant(node.values[-1], 0) else node.values[:-1]
            if isinstance(node.op, ast.And) and isinstance(source.parent[node], ast.If | ast.IfExp):
                tests += node.values[-1:]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            tests.append(node.operand)
        elif source.called(node) == BUILTIN + "bool" and isinstance(node, ast.Call):
            tests += node.args[:1]
    for test in dict.fromkeys(tests):
        told = test.value if isinstance(test, ast.NamedExpr) else test
        if _last_name(told) in SEED_NAMES:
            yield test, f"takes the seed {ast.unparse(told)} for none where it is 0"


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    key: ast.AST | None = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args:
        key = node.args[0]
    return text_of(key)


# --- order

LISTS = {
    "sorted",
    "min",
    "max",
    "list",
    "tuple",
    "iter",
    "enumerate",
    "zip",
    "map",
    "filter",
    "next",
    "dict.fromkeys",
    "reversed",
}
LISTING = frozenset(BUILTIN + name for name in LISTS) | words("numpy: array fromiter asarray", "torch: tensor")
LISTING |= words("itertools: chain product combinations permutations islice cycle", "random: sample choices shuffle")


def set_order(source: Flow) -> Iterator[Place]:
    """List sets whose items are put into an order."""
    for node in source.nodes:
        if not isinstance(node, ast.expr) or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            continue
        if source.set_of(node) == "others" and (how := _ordered(source, node)):
            text = ast.unparse(node)
            yield node, f"{how} the set {text if len(text) <= 40 else text[:37] + '...'}"


def _ordered(source: Flow, node: ast.expr) -> str:
    """Say how the items of a set are put into an order that something hangs on, or return ""."""
    parent = source.parent[node]
    if isinstance(parent, ast.For | ast.AsyncFor) and parent.iter is node:
        return "" if source.loop_free(parent) else "iterates"
    if isinstance(parent, ast.comprehension) and parent.iter is node:
        return "" if source.order_free(node) else "iterates"
    if isinstance(parent, ast.Starred | ast.YieldFrom):
        return "" if source.order_free(node) else "unpacks"
    if isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Tuple):
        return "" if is_single(parent.targets[0]) else "unpacks"
    if isinstance(parent, ast.Call) and node in parent.args:
        method = method_of(parent.func)
        listed = source.called(parent) in LISTING or method in ("join", "extend", "fromkeys")
        return "lists" if listed and not source.order_free(node) else ""
    if isinstance(parent, ast.Attribute) and parent.attr == "pop":
        call = source.parent[parent]
        return "pops from" if isinstance(call, ast.Call) and not call.args else ""
    return ""


LISTINGS = words("os: listdir scandir walk fwalk", "glob: glob iglob")
UNORDERED = words("concurrent.futures: as_completed", "asyncio: as_completed", "ray: wait")


def folder_order(source: Flow) -> Iterator[Place]:
    """List listings of folders that are not sorted."""
    for call in source.calls:
        name = source.called(call)
        method = method_of(call.func)
        if name not in LISTINGS and (
            method not in ("iterdir", "rglob", "glob", "walk")
            or (name and not name.startswith((".", "pathlib.")))
            or (method == "walk" and not _is_path(source, call.func.value))  # type: ignore[attr-defined]
        ):
            continue
        if not (_walk_sorted(source, call) if "walk" in (method, name[-4:]) else source.order_free(call)):
            yield call, calls(call)


def _is_path(source: Flow, node: ast.AST) -> bool:
    return source.called(node).startswith("pathlib.")


def _walk_sorted(source: Flow, call: ast.Call) -> bool:
    """Whether a walk is put in order: the folders, and the files of each."""
    parent, is_sorted = source.parent[call], False
    if isinstance(parent, ast.Call) and source.called(parent) == BUILTIN + "sorted":
        parent, is_sorted = source.parent[parent], True
    if not isinstance(parent, ast.For) or not isinstance(parent.target, ast.Tuple):
        return is_sorted or source.order_free(call)
    if source.loop_free(parent):
        return True
    folders, files = (
        [use for use in ast.walk(parent) if isinstance(use, ast.Name) and use.id == getattr(each, "id", "")][1:]
        for each in parent.target.elts[1:3]
    )

    def in_order(uses: list[ast.Name], need: bool) -> bool:
        tidied = any(_sorts(source, use) for use in uses)
        loads = [use for use in uses if isinstance(use.ctx, ast.Load)]
        return tidied or (all(map(source.order_free, loads)) and not need)

    return in_order(folders, not is_sorted) and in_order(files, False)


def _sorts(source: Flow, use: ast.Name) -> bool:
    parent = source.parent[use]
    if isinstance(parent, ast.Attribute):
        return parent.attr == "sort"
    return isinstance(parent, ast.Subscript) and isinstance(parent.ctx, ast.Store)  # folders[:] = sorted(folders)


def completion_order(source: Flow) -> Iterator[Place]:
    """List results that are taken as they come."""
    for call in source.calls:
        method = method_of(call.func)
        if (source.called(call) in UNORDERED or method == "imap_unordered") and not source.order_free(call):
            yield call, calls(call)
        if source.called(call) == "joblib.Parallel" and is_constant(keyword(call, "return_as"), "generator_unordered"):
            yield call, "takes results as they come, by return_as='generator_unordered'"


# --- what is another in each process

CLOCKS = words(
    "time: time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns",
    "time: thread_time localtime gmtime ctime strftime asctime",
    "datetime: datetime.now datetime.utcnow datetime.today date.today",
    "os.path: getmtime getctime getatime",
    "pandas: Timestamp.now Timestamp.today Timestamp.utcnow",
)
CONVERTS = {"time.localtime": 1, "time.gmtime": 1, "time.ctime": 1, "time.strftime": 2, "time.asctime": 1}
FILE_TIMES = {f"st_{kind}time{unit}" for kind in "mca" for unit in ("", "_ns")}
CHANCE = words(
    "os: urandom getrandom getpid getppid",
    "uuid: uuid1 uuid4",
    "secrets: token_bytes token_hex token_urlsafe randbelow randbits choice SystemRandom",
    "random: SystemRandom SystemRandom.random",
    "threading: get_ident get_native_id",
    "multiprocessing: current_process",
    "socket: gethostname getfqdn",
    "platform: node",
)
RESEEDS = words("random: seed", "numpy.random: seed", "torch: seed random.seed cuda.seed cuda.seed_all")


def clock(source: Flow) -> Iterator[Place]:
    """List times that are used for more than a message."""
    for node, call, what in source.mentions(CLOCKS):
        converts = call and len(call.args) >= CONVERTS.get(source.called(call), 9)
        if not converts and not source.only_said(node):
            yield node, what
    for each in source.nodes:
        if isinstance(each, ast.Attribute) and each.attr in FILE_TIMES and not source.only_said(each):
            yield each, f"reads {ast.unparse(each)}"
        elif source.called(each) == "numpy.datetime64" and is_constant(next(iter(each.args), None), "now", "today"):  # type: ignore[attr-defined]
            yield each, f"calls {ast.unparse(each)}"


def chance(source: Flow) -> Iterator[Place]:
    """List true randomness, and what names a process or a host."""
    for node, _, what in source.mentions(CHANCE):
        if not source.only_said(node):
            yield node, what
    for call in source.calls:
        if source.called(call) in RESEEDS and unseeded(call):
            yield call, f"{calls(call)} without a seed"
        elif isinstance(call.func, ast.Attribute) and call.func.attr == "seed" and unseeded(call):
            values = [value for value in source.values(call.func.value) if value]
            if any(source.called(value) in GENERATORS for value in values):
                yield call, f"{calls(call)} without a seed"


def hash(source: Flow) -> Iterator[Place]:
    """List hashes of what is no number, and addresses."""
    for each in source.calls:
        method = method_of(each.func)
        if method == "__hash__" and getattr(source.function(each), "name", "") != "__hash__":
            yield each, calls(each)
    for node, call, what in source.mentions(frozenset({BUILTIN + "hash", BUILTIN + "id"})):
        parent = source.parent[node]
        if call is None:
            if isinstance(parent, ast.keyword) and parent.arg == "key":
                yield node, f"sorts by {ast.unparse(node)}"
            continue
        function = source.function(node)
        if getattr(function, "name", "") == "__hash__" or source.only_said(node) or isinstance(parent, ast.Compare):
            continue
        if source.called(call) == BUILTIN + "hash":
            if not (call.args and source.is_number(call.args[0])):
                yield node, what
        elif isinstance(parent, ast.BinOp | ast.UnaryOp) or _in_key(source, node) or _is_seed(source, parent):
            yield node, what


def _in_key(source: Flow, node: ast.AST) -> bool:
    lambdas = [each for each in source.above(node) if isinstance(each, ast.Lambda)]
    parents = [source.parent[each] for each in lambdas]
    return any(isinstance(each, ast.keyword) and each.arg == "key" for each in parents)


def _is_seed(source: Flow, parent: ast.AST) -> bool:
    if isinstance(parent, ast.keyword):
        return parent.arg in SEED_NAMES
    called = source.called(parent) if isinstance(parent, ast.Call) else ""
    method = parent.func.attr if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute) else ""
    return called in SEEDED or method in SEEDING or called.endswith("seed_everything")
