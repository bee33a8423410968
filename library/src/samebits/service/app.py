"""The service's addresses: POST /predict, the page to try it, /docs, /health."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from .. import __version__
from ..engine.printing import printable
from . import pages
from .predictor import Predictor, Unavailable

KINDS = {"bool": "boolean", "int": "integer", "float": "number"}  # of options, as JSON Schema calls them
WORDS = {"true": True, "false": False}  # in forms
MOST_FIELDS, MOST_TEXT = 16, 4096  # of a form, and bytes of one that is no file
SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
MOST_SAID = 400  # characters of a refusal
OTHERS = {
    404: "there is nothing at this address: / has a page.",
    405: "this is not how that address is asked: see /docs.",
}
FORM, JSON = "multipart/form-data", "application/json"


class Refusal(BaseModel):
    """Why there is no answer, in a sentence."""

    model_config = ConfigDict(extra="forbid")
    error: str
    run: str
    weights: str


class Health(BaseModel):
    """Whether it answers, and by which weights."""

    model_config = ConfigDict(extra="forbid")
    status: str
    run: str
    weights: str


class Answer(BaseModel):
    """What predict.py says of the same input, and by which weights: the run's id, and the sha256 of their content."""

    model_config = ConfigDict(extra="forbid")
    run: str
    weights: str
    predictions: Any


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        400: "no request that can be read",
        401: "no token, or another one",
        403: "asked by another name, or by a page from elsewhere",
        408: "not sent in time",
        413: "too large",
        415: "neither a form nor JSON",
        422: "an input that cannot be used",
        503: "too many requests at once, or one that took too long",
    }.items()
}


def make_app(predictor: Predictor, about: dict[str, str], title: str, folder: Path) -> FastAPI:
    """Make the application.

    Args:
        predictor: has been started.
        about: `run` and `weights`.
        title: of the pages.
        folder: for the files that are sent, each until it is answered.
    """
    asked = predictor.described
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        """Answer in one sentence."""
        said = OTHERS.get(error.status_code) or f"{printable(error.detail)[:MOST_SAID].rstrip('.')}."
        return JSONResponse({"error": said, **about}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        """Answer without a traceback, which goes to the server's own output."""
        return JSONResponse({"error": "this server has made a mistake, which it has printed.", **about}, 500)

    @app.get("/health", summary="Whether it answers")
    async def health() -> Health:
        return Health(status="ok", **about)

    body = {"requestBody": {"required": True, "content": _content(asked)}}

    @app.post("/predict", summary="Predict", response_model=Answer, responses=REFUSALS, openapi_extra=body)
    async def predict(request: Request) -> JSONResponse:
        sent, name, options = await _read(request, asked)
        path = None
        try:
            if sent is not None:
                path = folder / f"{next(numbers)}{suffix(name)}"
                path.write_bytes(sent)
            found = await predictor.ask(path, options)
        except Unavailable as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from None
        finally:
            if path:
                path.unlink(missing_ok=True)
        if "error" in found:
            sentence = found["error"].replace(str(path), printable(name)) if path else found["error"]
            raise HTTPException(422, sentence)
        return JSONResponse({**about, "predictions": found["answer"]})

    numbers = iter(range(2**62))
    served = {"/": pages.to_try(title, about, asked), "/docs": pages.documentation(title, about, app.openapi())}
    for address, (page, policy) in served.items():
        response = HTMLResponse(page, headers={"Content-Security-Policy": policy})
        app.add_api_route(address, lambda response=response: response, include_in_schema=False, response_model=None)
    return app


def suffix(name: str) -> str:
    """Read the ending of a file's name, by which predict.py may know its kind; nothing else of the name is used."""
    ending = Path(name.lower().replace("\\", "/")).suffix
    return ending if SUFFIX.fullmatch(ending) else ""


def _content(asked: dict[str, Any]) -> dict[str, Any]:
    """Describe, as OpenAPI does, what is sent: a form with a file, or JSON with the rows of a table."""
    options = {
        name: {"type": KINDS[each["type"]], **({"default": each["default"]} if "default" in each else {})}
        for name, each in asked["options"].items()
    }
    needed = [name for name, each in asked["options"].items() if "default" not in each]
    number = {"type": "number"}
    rows = {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": number}}
    file = {"type": "string", "format": "binary", "description": asked["file"]}
    first = {FORM: ("file", file), JSON: ("rows", {**rows, "description": "the numbers of a CSV file"})}
    return {
        kind: {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": ({name: said} if asked["file"] else {}) | options,
                "required": ([name] if asked["file"] else []) + needed,
            }
        }
        for kind, (name, said) in first.items()
    }


async def _read(request: Request, asked: dict[str, Any]) -> tuple[bytes | None, str, dict[str, Any]]:
    """Read a request: the content of the file, its name, and the options. A 4xx says what is wrong with it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    sent: bytes | None = None
    name = "rows"
    if kind == FORM:
        given: dict[str, Any] = {}
        async with request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_TEXT) as form:
            for key, value in form.multi_items():
                if key in given:
                    _refuse(f"the form has {printable(key)[:40]!r} twice: send it once.")
                given[key] = value
            if asked["file"]:
                file = given.pop("file", None)
                if not isinstance(file, UploadFile):
                    _refuse(f"there is no file: send {asked['file']} as the field `file` of a form.")
                sent, name = await file.read(), (file.filename or "file")[-100:]
    elif kind == JSON:
        given = _parse(await request.body())
        if asked["file"]:
            sent, name = _table(given.pop("rows", None)), "rows.csv"
    else:
        raise HTTPException(415, f"this is neither {FORM} nor {JSON}: send one of these.")
    return sent, name, _options(given, asked["options"], texts=kind == FORM)


def _parse(content: bytes) -> dict[str, Any]:
    """Parse JSON, strictly."""
    try:
        found = json.loads(content, parse_constant=lambda text: 1 / 0)
    except (ValueError, RecursionError, ZeroDivisionError):
        _refuse("this is no JSON: send an object with `rows`, lists of numbers.")
    if not isinstance(found, dict):
        _refuse("this is no object: send one with `rows`, lists of numbers.")
    return found


def _table(rows: Any) -> bytes:
    """Write rows as the CSV file that predict.py would be given: each number as Python writes it."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        _refuse("`rows` is no list of rows: send a list for each sample, of its numbers.")
    try:
        lines = [",".join(repr(_number(value, "rows")) for value in row) for row in rows]
    except ValueError:  # Python writes no whole numbers of more than 4,300 digits
        _refuse("`rows` has a number that is too large: send smaller ones.")
    return "\n".join([*lines, ""]).encode()


def _number(value: Any, name: str, kind: str = "float") -> Any:
    """Return a finite number, or a whole one."""
    fits = isinstance(value, int) or (kind == "float" and isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not fits:
        what = {"int": "a whole number", "float": "a number"}[kind]
        _refuse(f"`{name}` has {printable(value)[:40]!r}, which is not {what}: send {what}.")
    return value


def _options(given: dict[str, Any], asked: dict[str, Any], texts: bool) -> dict[str, Any]:
    """Read the arguments besides the file."""
    if strange := [name for name in given if name not in asked]:
        _refuse(f"there is no {printable(strange[0])[:40]!r} here: {', '.join(asked) or 'nothing more'} may be set.")
    if missing := [name for name, each in asked.items() if name not in given and "default" not in each]:
        _refuse(f"`{missing[0]}` is missing: send it.")
    found = {}
    for name, value in given.items():
        kind = asked[name]["type"]
        if texts and isinstance(value, str):
            with suppress(LookupError, ValueError):  # refused below
                value = WORDS[value] if kind == "bool" else {"int": int, "float": float}[kind](value)
        if kind != "bool":
            _number(value, name, kind)
        elif not isinstance(value, bool):
            _refuse(f"`{name}` is {printable(value)[:40]!r}, but must be true or false.")
        found[name] = value
    return found


def _refuse(sentence: str) -> NoReturn:
    raise HTTPException(422, sentence)
