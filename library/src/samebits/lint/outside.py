"""Rules about what comes from elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from .flow import Flow
from .syntax import BUILTIN, Place, calls, is_constant, keyword, method_of, methods, text_of, words

# --- what comes from elsewhere

PLACES = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "HOME"}
HARMLESS = re.compile(r"(SLURM|WANDB|MLFLOW|RAY)_\w+|\w*(TOKEN|API_KEY|PASSWORD|SECRET)|COLUMNS|TERM|NO_COLOR|TQDM_\w+")
WRITES = {"setdefault", "update", "copy", "pop", "clear"}
READERS = words(
    "builtins: open",
    "io: open",
    "gzip: open",
    "bz2: open",
    "lzma: open",
    "tarfile: open",
    "zipfile: ZipFile",
    "codecs: open",
    "numpy: load loadtxt genfromtxt fromfile memmap",
    "pandas: read_csv read_parquet read_json read_excel read_feather read_hdf read_pickle read_table read_sql read_orc",
    "polars: read_csv read_parquet read_json read_ipc scan_csv scan_parquet",
    "torch: load jit.load",
    "torchaudio: load",
    "torchvision.io: read_image decode_image",
    "PIL.Image: open",
    "cv2: imread",
    "imageio: imread",
    "skimage.io: imread",
    "h5py: File",
    "safetensors: safe_open",
    "safetensors.torch: load_file",
    "scipy.io: loadmat",
    "joblib: load",
    "xarray: open_dataset",
    "sqlite3: connect",
    "omegaconf: OmegaConf.load",
)
PATHS = {"file", "path", "fname", "filename", "filepath_or_buffer", "io", "fp", "f"}
JOINS = words(
    "builtins: str",
    "os: fspath",
    "os.path: join abspath expanduser realpath dirname",
    "pathlib: Path PurePath PosixPath",
)
ROOT = "<here>"
HOMES = words("pathlib: Path.home Path.cwd", "os: getcwd", "importlib.resources: files")


def outside_read(source: Flow) -> Iterator[Place]:
    """List environment variables, words of the command line, and files at fixed places."""
    yield from _environment(source)
    for call in source.calls:
        name = source.called(call)
        method = method_of(call.func)
        path: ast.AST | None = None
        if name in READERS:
            named = (each.value for each in call.keywords if each.arg in PATHS)
            path = next(iter([*call.args, *named]), None)
        elif method in ("read_text", "read_bytes", "open"):
            path = call.func.value  # type: ignore[attr-defined]
        start = None if path is None or _writes_to(call, name) else _fixed(source, path)
        if start is not None and not _within(start, source.data):
            yield call, f"{calls(call)} at a fixed place"
        if name == BUILTIN + "input":
            yield call, calls(call)
    is_program = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in source.tree.body)
    if source.is_training or not is_program:
        for node, _, what in source.mentions(
            words("sys: argv stdin stdin.read stdin.readline", "argparse: ArgumentParser")
        ):
            if not _is_command(source, node):
                yield node, what


def _within(path: str, folders: tuple[str, ...]) -> bool:
    return any(PurePosixPath(path.removeprefix(f"{ROOT}/")).is_relative_to(folder) for folder in folders)


def _is_command(source: Flow, node: ast.AST) -> bool:
    functions = [each for each in source.above(node) if isinstance(each, ast.FunctionDef)]
    return any(source.name(each) == "samebits.command" for found in functions for each in found.decorator_list)


def _environment(source: Flow) -> Iterator[Place]:
    made = set()  # variables that the file sets itself
    for node in source.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_environ(source, node.value):
            made.add(ast.unparse(node.slice))
    for node in source.nodes:
        key: ast.AST | None = None
        if source.called(node) in ("os.environ.items", "os.environ.keys", "os.environ.values"):
            yield node, "reads all environment variables"
        if source.called(node) in ("os.getenv", "os.environ.get", "os.environ.__getitem__"):
            key = next(iter(node.args), None)  # type: ignore[attr-defined]
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_environ(source, node.value):
            key = node.slice
        elif isinstance(node, ast.Compare) and any(_is_environ(source, each) for each in node.comparators):
            key = node.left
        if key is None or ast.unparse(key) in made or source.only_said(node):
            continue
        name = text_of(key)
        if name not in PLACES and not HARMLESS.fullmatch(name):
            yield node, f"reads the environment variable {name or ast.unparse(key)}"


def _is_environ(source: Flow, node: ast.AST) -> bool:
    return source.name(node) == "os.environ"


def _fixed(source: Flow, node: ast.AST, depth: int = 0) -> str | None:
    """Return a path that is written in the code, as far as it is: from ROOT where it is that of a file or folder here;
    None for any other path."""
    if isinstance(node, ast.Constant):
        return text_of(node) or None
    if isinstance(node, ast.JoinedStr):
        first = text_of(node.values[0] if node.values else None)
        return first if "/" in first else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div | ast.Add):
        start = _fixed(source, node.left, depth)
        more = text_of(node.right) or "..."
        joint = "/" if isinstance(node.op, ast.Div) else ""
        return None if start is None else f"{start}{joint}{more}"
    if isinstance(node, ast.Call):
        name = source.called(node)
        if name in HOMES:
            return ROOT
        if name in JOINS and node.args:
            parts = [_fixed(source, each, depth) or "..." for each in node.args[1:]]
            start = _fixed(source, node.args[0], depth)
            return None if start is None else "/".join([start, *parts])
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("resolve", "joinpath", "expanduser", "absolute"):
            return _fixed(source, node.func.value, depth)
        return None
    if isinstance(node, ast.Subscript | ast.Attribute):
        names = ("parent", "parents")
        inner = node.value
        if isinstance(node, ast.Subscript) or node.attr in names:
            return None if _fixed(source, inner, depth) is None else ROOT
    if isinstance(node, ast.Name) and source.name(node) == BUILTIN + "__file__":
        return ROOT
    if isinstance(node, ast.Name | ast.Attribute) and depth < 9:
        values = source.values(node)
        known = [_fixed(source, value, depth + 1) if value else None for value in values]
        return known[0] if None not in known else None
    return None


def _writes_to(call: ast.Call, name: str) -> str:
    """Return the mode by which a call opens a file for writing, or ""."""
    at = 0 if not name else 1
    mode = keyword(call, "mode") or (call.args[at] if len(call.args) > at else None)
    text = text_of(mode)
    return (
        text if name != "numpy.load" and re.fullmatch(r"[rwaxbt+:gzxb2]{1,6}", text) and set(text) & set("wax+") else ""
    )


CLIENTS = words(
    "requests: get post put head request Session session",
    "httpx: get post stream request Client AsyncClient",
    "urllib.request: urlopen urlretrieve",
    "urllib3: PoolManager request",
    "aiohttp: ClientSession request",
    "socket: create_connection",
    "http.client: HTTPConnection HTTPSConnection",
    "ftplib: FTP FTP_TLS",
    "wget: download",
    "gdown: download download_folder",
    "boto3: client resource",
    "torch.hub: load load_state_dict_from_url download_url_to_file",
    "huggingface_hub: hf_hub_download snapshot_download",
    "datasets: load_dataset",
    "torchvision.datasets.utils: download_url download_and_extract_archive",
    "kagglehub: dataset_download model_download",
    "tensorflow_datasets: load",
    "evaluate: load",
)
PROGRAMS = words("subprocess: run call check_call check_output Popen", "os: system popen")
DOWNLOADS = re.compile(r"""^[\[('"]*(curl|wget|aws|gsutil|gcloud|kaggle|rsync|scp|git\W+clone)\b""")
LOCAL = {"csv", "json", "parquet", "text", "imagefolder", "audiofolder", "arrow", "local"}


def network(source: Flow) -> Iterator[Place]:
    """List what servers give."""
    for call in source.calls:
        name = source.called(call)
        method = method_of(call.func)
        if is_constant(keyword(call, "local_files_only"), True):
            continue
        if name in PROGRAMS and DOWNLOADS.search(ast.unparse(call.args[0]) if call.args else ""):
            yield call, f"{calls(call)} for a download"
        local = name in ("datasets.load_dataset", "torch.hub.load") and (
            is_constant(next(iter(call.args), None), *LOCAL) or is_constant(keyword(call, "source"), "local")
        )
        fetched = name.startswith("sklearn.datasets.fetch_") or (name in CLIENTS and not local)
        by_name = method == "from_pretrained" and call.args and _is_text(call.args[0])
        if fetched or by_name:
            yield call, calls(call)
        elif is_constant(keyword(call, "download"), True) or is_constant(keyword(call, "pretrained"), True):
            word = "download" if keyword(call, "download") else "pretrained"
            yield call, f"{calls(call)} with {word}=True"
        elif name.startswith("torchvision.models") and _weights(keyword(call, "weights")):
            yield call, f"{calls(call)} with published weights"


def _is_text(node: ast.AST) -> bool:
    return bool(text_of(node)) and not text_of(node).startswith((".", "/"))


def _weights(node: ast.AST | None) -> bool:
    return node is not None and (
        _is_text(node)
        or (isinstance(node, ast.Attribute) and node.attr.isupper())
        or (isinstance(node, ast.Attribute) and node.attr.startswith("IMAGENET"))
    )


SAVERS = words(
    "numpy: save savez savez_compressed savetxt",
    "torch: save",
    "os: remove unlink rename replace truncate rmdir",
    "shutil: rmtree move",
    "safetensors.torch: save_file",
    "joblib: dump",
)
TO_SECOND = words("shutil: move copy copy2 copyfile copytree", "os: rename replace", "torch: save", "joblib: dump")
TO_SECOND |= words("safetensors.torch: save_file")
WRITING = methods("write_text write_bytes unlink rename replace rmdir touch")  # of a path
WRITES_TO = methods("to_csv to_parquet to_json to_pickle to_feather to_excel tofile save rename replace")  # a path
MAPS = words("numpy: load memmap lib.format.open_memmap")
PATH_METHODS = {"glob", "rglob", "with_suffix", "with_name", "with_stem", "joinpath", "relative_to"}
RAW = {"raw", "external"}


def data_edit(source: Flow) -> Iterator[Place]:
    """List what is written to the data."""
    for call in source.calls:
        name = source.called(call)
        method = method_of(call.func)
        given = [*call.args, *(each.value for each in call.keywords)]
        if name in MAPS and any(is_constant(each, "r+") for each in given):
            yield call, f"{calls(call)} for writing (mode 'r+')"
            continue
        written: list[ast.AST] = []
        if name in SAVERS - TO_SECOND or (name in READERS and _writes_to(call, name)):
            written = list(call.args[:1])
        if name in TO_SECOND:
            written = [
                *call.args[1:2],
                *(call.args[:1] if name in SAVERS and name.startswith(("os", "shutil")) else []),
            ]
        elif not (method == "replace" and len(call.args) > 1) and isinstance(call.func, ast.Attribute):
            on_path = method in WRITING or (method == "open" and not name and _writes_to(call, ""))
            written += [call.func.value] if on_path else []
            written += call.args[:1] if method in WRITES_TO else []
        if any(_is_data(source, each) for each in written):
            yield call, f"{calls(call)} on the data"


def _is_data(source: Flow, node: ast.AST, depth: int = 0) -> bool:
    """Whether a path leads into the data: raw ones anywhere, prepared ones but in a stage."""
    start = _fixed(source, node)
    if start is not None and _within(start, source.data):
        return not source.is_stage or bool(RAW & set(PurePosixPath(start).parts))
    node = _beginning(node)
    if isinstance(node, ast.Attribute) and node.attr in RAW and "paths" in ast.unparse(node.value):
        return True
    variable = source.variable(node)
    if variable is None or variable in source.imported or depth > 8:
        return False
    values = [*source.assigned[variable], *source.items_of[variable]]
    return any(_is_data(source, value, depth + 1) for value in values if value is not None)


def _beginning(node: ast.AST) -> ast.AST:
    """Return what a path begins with: folder, in `folder / name`, `Path(folder).parent`, `sorted(folder.glob("*"))`."""
    while True:
        if isinstance(node, ast.BinOp):
            node = node.left
        elif isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.FormattedValue):
            node = node.values[0].value
        elif isinstance(node, ast.Call) and node.args and method_of(node.func) not in PATH_METHODS:
            node = node.args[0]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value
        elif isinstance(node, ast.Attribute) and node.attr == "parent":
            node = node.value
        else:
            return node


SWITCHES = words(
    "torch: use_deterministic_algorithms set_num_threads set_num_interop_threads set_float32_matmul_precision",
    "torch: set_deterministic_debug_mode set_flush_denormal",
    "torch.backends: cudnn.flags mkldnn.flags mkl.verbose cuda.sdp_kernel",
)
SETS = re.compile(r"torch\.backends\..*\.(set|enable)_\w+")
SETTERS = words("os: environ.setdefault putenv", "builtins: setattr")
PINNED = re.compile(
    r"CUBLAS_WORKSPACE_CONFIG|PYTHONHASHSEED|(OMP|MKL|ATEN|ONEDNN|DNNL|NVIDIA_TF32|TORCH_ALLOW_TF32)_\w+"
)


def switch(source: Flow) -> Iterator[Place]:
    """List settings of PyTorch that determinism pins."""
    for node, call, what in source.mentions(SWITCHES):
        if call is not None:
            yield node, what
    for node in source.nodes:
        target: ast.AST | None = None
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            target = node
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and _is_environ(source, node.value):
            target = node.slice
        elif isinstance(node, ast.Call) and source.called(node) in SETTERS and node.args:
            target = node.args[0]
        elif isinstance(node, ast.Call) and source.called(node) == "os.environ.update":
            given = [each.arg or "" for each in node.keywords]
            given += [text_of(key) for each in node.args for key in getattr(each, "keys", [])]
            yield from ((node, f"sets the environment variable {name}") for name in given if PINNED.fullmatch(name))
        elif SETS.fullmatch(source.called(node)):
            yield node, f"calls {ast.unparse(node)}"
        if target and (source.name(target).startswith("torch.backends.") or PINNED.fullmatch(text_of(target))):
            yield node, f"sets {text_of(target) or ast.unparse(target)}"
