"""Attacks by requests to the service: what is too much, no input, no name of a file, from elsewhere, or no HTTP.

Each has to be refused in one sentence, with the status of its kind and without a traceback or a path of the server, and
the next honest request has the same answer as ever.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from socket import create_connection

import numpy as np
from PIL import Image

from .attack import Attack
from .served import MEGABYTES, ROWS, SECONDS, Reply, Service, about, expected, served

KIND = "a request"
JSON = {"Content-Type": "application/json"}
Send = Callable[[Service], Reply]


def check(send: Send, statuses: tuple[int, ...], folder: Path) -> None:
    """Send it, look at the answer, and at that of an honest request."""
    service = served()
    reply = send(service)
    assert reply.status in statuses, (reply.status, reply.text[:300])
    if reply.headers:  # else what is no HTTP was refused by the server below ours
        assert reply.headers["x-run"] == about()["run"] and reply.headers["x-weights"] == about()["weights"]
    if reply.status >= 400 and reply.headers:
        said = reply.json
        assert {key: said[key] for key in about()} == about()
        assert said["error"].endswith(".") and said["error"].isprintable() and len(said["error"]) < 500, said
    for word in ("Traceback", "/tmp/", "serve-", "root:"):
        assert word not in reply.text
    assert service.predict("rows.csv", ROWS).json == {**about(), "predictions": expected()}


def upload(name: str, content: bytes, **fields: str) -> Send:
    return lambda service: service.predict(name, content, **fields)


def sent(content: object, kind: str = "application/json") -> Send:
    """Send a body that is no form."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda service: service.ask("POST", "/predict", body, {"Content-Type": kind})


def asked(method: str, path: str, **headers: str) -> Send:
    return lambda service: service.ask(
        method, path, None, {name.replace("_", "-"): each for name, each in headers.items()}
    )


def raw(content: bytes, seconds: float = 60) -> Send:
    """Send what need not be HTTP; the answer has no headers to look at."""

    def send(service: Service) -> Reply:
        found = service.raw(content, seconds)
        return Reply(int(found.split()[1]) if found.startswith("HTTP/1.1 ") else 0, {}, found)

    return send


def picture(kind: str, side: int = 8, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (side, side)).save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, content: bytes) -> bytes:
    """Write a PNG that says how large it is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


LARGE = png(5000, 4000, zlib.compress(bytes(4000 * 5001), 9))


def array(kind: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, kind, allow_pickle=True)
    return stream.getvalue()


class _Planted:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("root:",)


PICKLE = pickle.dumps(_Planted())
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) (r) file 1000 string readstring pop =\n%%EOF\n"
UPLOADS = {
    "a pickle": ("a.csv", PICKLE),
    "a pickle by its name": ("a.pkl", PICKLE),
    "an array of objects": ("a.npy", array(np.array([_Planted()], dtype=object))),
    "an array": ("a.npy", array(np.zeros((1, 64)))),
    "nothing": ("a.csv", b""),
    "no numbers": ("a.csv", b"a,b\n"),
    "numbers that are none": ("a.csv", b",".join([b"nan"] * 64)),
    "infinite numbers": ("a.csv", b",".join([b"inf"] * 64)),
    "a number with many digits": ("a.csv", b"9" * 100_000),
    "a hundred thousand columns": ("a.csv", b"1," * 100_000),
    "a hundred thousand empty lines": ("a.csv", b"\n" * 100_000),
    "zeros": ("a.png", bytes(1000)),
    "a torn PNG": ("a.png", picture("PNG", 64)[:60]),
    "a torn JPEG": ("a.jpg", picture("JPEG", 64)[:200]),
    "a torn TIFF": ("a.tif", picture("TIFF", 64)[:100]),
    "a torn GIF": ("a.gif", picture("GIF", 64)[:30]),
    "a PNG that says 2 gigapixels": ("a.png", png(46_000, 46_000, zlib.compress(b""))),
    "a PNG with 100 million pixels": ("a.png", png(10_000, 10_000, zlib.compress(bytes(10_000 * 10_001), 9))),
    "a PNG with 20 million pixels": ("a.png", LARGE),
    "a PNG without a side": ("a.png", png(0, 0, b"")),
    "a PNG whose chunk is no stream": ("a.png", png(8, 8, b"\xff" * 100)),
    "PostScript": ("a.png", EPS),
    "PostScript by its name": ("a.eps", EPS),
    "a drawing that asks for a file": ("a.svg", b'<svg xmlns="x"><image href="file:///etc/passwd"/></svg>'),
    "an entity": ("a.png", b'<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><x>&y;</x>'),
    "a rare kind of image": ("a.png", picture("PPM")),
    "another one, compressed": ("a.png", picture("SGI")),
}
TORN = b"not,a,row"
NAMES = {
    "a way up": "../../../etc/passwd",
    "a way up, behind an ending": "a.png/../../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "Windows' way": "..\\..\\a.csv",
    "no name": "",
    "a dot": ".",
    "two dots": "..",
    "only an ending": ".csv",
    "many letters": "a" * 5000 + ".csv",
    "many endings": ".csv" * 500,
    "an ending with a way": "a.c/v",
    "another direction": "a\u202evsc.exe",
    "a terminal's words": "a\x1b[2Jb.csv",
    "a shell's words": "$(id);`id`|id.csv",
    "a script": "<script>alert(1)</script>.csv",
    "no UTF-8": "a\udcff.csv",
}
ROW = [0] * 64
BODIES: dict[str, tuple[object, tuple[int, ...]]] = {
    "nothing": (b"", (422,)),
    "no object": ([ROW], (422,)),
    "no JSON": (b"{", (422,)),
    "no UTF-8": (b'{"rows": "\xff"}', (422,)),
    "no rows": ({}, (422,)),
    "rows of nothing": ({"rows": []}, (422,)),
    "an empty row": ({"rows": [[]]}, (422,)),
    "rows of objects": ({"rows": [{"x": 1}]}, (422,)),
    "a text": ({"rows": [["1"] * 64]}, (422,)),
    "a text with a line": ({"rows": [["1\n2"] * 64]}, (422,)),
    "truth": ({"rows": [[True] * 64]}, (422,)),
    "nothing in a row": ({"rows": [[None] * 64]}, (422,)),
    "rows of unequal length": ({"rows": [ROW, ROW[:3]]}, (422,)),
    "too few columns": ({"rows": [[1, 2]]}, (422,)),
    "NaN": (b'{"rows": [[NaN]]}', (422,)),
    "infinity": (b'{"rows": [[-Infinity]]}', (422,)),
    "a number beyond all": (b'{"rows": [[1e999]]}', (422,)),
    "a whole number of 5,000 digits": (b'{"rows": [[' + b"9" * 5000 + b"]]}", (422,)),
    "a whole number of 4,000 digits": (b'{"rows": [[' + b"9" * 4000 + b"]]}", (422,)),
    "a hundred thousand levels": (b'{"rows": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", (422,)),
    "a path": ({"rows": [ROW], "path": "/etc/passwd"}, (422,)),
    "a run": ({"rows": [ROW], "run": "/etc"}, (422,)),
    "an argument that is none": ({"rows": [ROW], "__class__": 1}, (422,)),
    "an option of another type": ({"rows": [ROW], "invert": "false"}, (422,)),
    "an option that is a list": ({"rows": [ROW], "invert": [True]}, (422,)),
    "more than is read": ({"rows": [ROW] * 10_000}, (413,)),
}
KINDS = ("", "text/html", "application/x-python-pickle", "application/xml", "text/csv", "multipart/mixed; boundary=xx")
ELSEWHERE = {
    "another name": {"Host": "evil.example"},
    "another name, with the port": {"Host": "evil.example:8000"},
    "a name that begins alike": {"Host": "127.0.0.1.evil.example"},
    "a user in the name": {"Host": "127.0.0.1@evil.example"},
    "no name": {"Host": ""},
    "a name that is none": {"Host": "[::1"},
    "a page from elsewhere": {"Origin": "https://evil.example"},
    "a page of a file": {"Origin": "null"},
}
PATHS = {
    "a way up": "/../../../../etc/passwd",
    "a way up in disguise": "/%2e%2e/%2e%2e/etc/passwd",
    "a way up from a page": "/docs/..%2f..%2fetc/passwd",
    "two strokes": "//etc/passwd",
    "NUL": "/%00",
    "FastAPI's own page": "/redoc",
    "a long path": "/" + "a" * 8000,
}
METHODS = {"PUT": (405,), "DELETE": (405,), "PATCH": (405,), "OPTIONS": (405,), "TRACE": (405,), "NONSENSE": (405,)}


def many_fields(service: Service) -> Reply:
    return service.predict("a.csv", ROWS, **{f"x{number}": "1" for number in range(5000)})


def parts(count: int, head: str, content: bytes = b"x", end: bytes = b"--xx--\r\n") -> Send:
    """Send a form of many parts."""
    part = f"--xx\r\n{head}\r\n\r\n".encode() + content + b"\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    return lambda service: service.ask("POST", "/predict", part * count + end, kind)


FILE = 'Content-Disposition: form-data; name="file"; filename="a.csv"'
FORMS: dict[str, Send] = {
    "5,000 fields": many_fields,
    "5,000 files": parts(5000, FILE),
    "two files": parts(2, FILE, ROWS),
    "a field twice": parts(2, 'Content-Disposition: form-data; name="invert"', b"true"),
    "a long field": parts(1, 'Content-Disposition: form-data; name="invert"', b"x" * 100_000),
    "a file that is a field": parts(1, 'Content-Disposition: form-data; name="file"', ROWS),
    "a part without a name": parts(1, "Content-Disposition: form-data", ROWS),
    "a part without a head": parts(1, "", ROWS),
    "a part of long heads": parts(1, FILE + f"\r\nX-Y: {'x' * 100_000}", ROWS),
    "a part of many heads": parts(1, FILE + "\r\nX-Y: z" * 10_000, ROWS),
    "no end": parts(1, 'Content-Disposition: form-data; name="invert"', b"true", b""),
    "no part": parts(0, ""),
    "no boundary": sent(ROWS, "multipart/form-data"),
    "an argument that is none": upload("a.csv", ROWS, path="/etc/passwd"),
    "an option of another type": upload("a.csv", ROWS, invert="perhaps"),
    "more than is read": upload("a.csv", b"1" * (MEGABYTES * 1_000_000)),
}


def chunked(service: Service) -> Reply:
    """Send more than is read without saying how much, and look at the answer's status alone."""
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Type: text/csv\r\n\r\n"
    with create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(head)
        try:
            for _ in range(200):
                connection.sendall(b"10000\r\n" + b"1" * 65536 + b"\r\n")
        except OSError:
            pass  # it has closed
        try:
            found = connection.recv(65536).decode("latin-1")
        except OSError:
            found = "HTTP/1.1 413 "
    return Reply(int(found.split()[1]), {}, found)


def slow(service: Service) -> Reply:
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nx"
    return raw(head, 5 * SECONDS)(service)


def many_connections(service: Service) -> Reply:
    """Hold 400 connections, of which some are refused; they are given back."""
    with ExitStack() as held:
        for _ in range(400):
            held.enter_context(create_connection(("127.0.0.1", service.port), timeout=60))
        return raw(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")(service)


def many_at_once(service: Service) -> Reply:
    """Ask a hundred at once: all are answered, as ever, or told to come again."""
    with ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(lambda number: service.predict("rows.csv", ROWS), range(100)))
    assert {each.status for each in replies} <= {200, 503}
    good = [each for each in replies if each.status == 200]
    assert good and all(each.json["predictions"] == expected() for each in good)
    return good[0]


HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
RAW: dict[str, tuple[Send, tuple[int, ...]]] = {
    "no HTTP": (raw(b"\x16\x03\x01" + bytes(100)), (400,)),
    "a long first line": (raw(b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"), (0, 400, 404, 414, 431)),
    "long headers": (raw(HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n"), (0, 400, 413, 415, 431)),
    "a length below zero": (raw(HEAD + b"Content-Length: -1\r\n\r\n"), (400, 413)),
    "a length that is none": (raw(HEAD + b"Content-Length: 1e3\r\n\r\n"), (400, 413)),
    "a length beyond all": (raw(HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"), (400, 413)),
    "two lengths": (raw(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), (400, 413)),
    "two lengths of two kinds": (
        raw(HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, 415),
    ),
    "a socket of the web": (raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + UPGRADE + b"\r\n", 2), (0, 200, 400, 404)),
    "chunks without an end": (chunked, (413,)),
    "a body that does not come": (slow, (408,)),
    "400 connections": (many_connections, (200, 503)),
    "a hundred at once": (many_at_once, (200,)),
}

CASES: list[Attack] = [
    *(Attack(KIND, f"file: {name}", partial(check, upload(*each), (422,))) for name, each in UPLOADS.items()),
    *(Attack(KIND, f"name: {name}", partial(check, upload(each, TORN), (422, 400))) for name, each in NAMES.items()),
    *(Attack(KIND, f"JSON: {name}", partial(check, sent(each), statuses)) for name, (each, statuses) in BODIES.items()),
    *(Attack(KIND, f"type: {each or 'none'}", partial(check, sent(ROWS, each), (415,))) for each in KINDS),
    *(Attack(KIND, f"form: {name}", partial(check, send, (400, 413, 422))) for name, send in FORMS.items()),
    *(
        Attack(KIND, f"from: {name}", partial(check, asked("GET", "/health", **each), (400, 403)))
        for name, each in ELSEWHERE.items()
    ),
    *(Attack(KIND, f"path: {name}", partial(check, asked("GET", each), (400, 404))) for name, each in PATHS.items()),
    *(
        Attack(KIND, f"method: {name}", partial(check, asked(name, "/predict"), (400, *each)))
        for name, each in METHODS.items()
    ),
    *(Attack(KIND, f"bytes: {name}", partial(check, *each)) for name, each in RAW.items()),
]
