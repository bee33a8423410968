"""The service's two pages, each one file without a network: one to try it, and one that describes it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any

HERE = Path(__file__).parent
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
Page = tuple[str, str]  # its text, and its Content-Security-Policy


def to_try(title: str, about: dict[str, str], asked: dict[str, Any]) -> Page:
    """Write the page with a form for what `predict` is given; asked: as worker.describe says it."""
    inputs = ""
    if asked["file"]:
        inputs += f'<label>{escape(asked["file"])} <input type="file" name="file" required></label>'
    for name, option in asked["options"].items():
        default = option.get("default")
        if option["type"] == "bool":
            kind = 'type="checkbox" value="true"' + (" checked" if default else "")
        else:
            value = "" if default is None else f' value="{escape(str(default))}"'
            kind = f'type="number" step="{1 if option["type"] == "int" else "any"}"{value} required'
        inputs += f"<label>{escape(name)} <input {kind} name={json.dumps(name)}></label>"
    return _page("page.html", title, about, inputs)


def documentation(title: str, about: dict[str, str], openapi: dict[str, Any]) -> Page:
    """Write what the service is asked, and what it answers, as its OpenAPI description says."""
    text = ""
    for path, methods in openapi["paths"].items():
        for method, each in methods.items():
            text += f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(each['summary'])}.</p>"
            for kind, sent in each.get("requestBody", {}).get("content", {}).items():
                schema = escape(json.dumps(sent["schema"], indent=2))
                text += f"<details><summary>{escape(kind)}</summary><pre>{schema}</pre></details>"
            rows = (
                f"<tr><td>{escape(status)}</td><td>{escape(said['description'])}</td></tr>"
                for status, said in each["responses"].items()
            )
            text += f"<table>{''.join(rows)}</table>"
    return _page("docs.html", title, about, text)


def _page(name: str, title: str, about: dict[str, str], content: str) -> Page:
    style = (HERE / "style.css").read_text(encoding="utf-8")
    texts = {key: escape(value) for key, value in {"title": title, **about}.items()}
    page = Template((HERE / name).read_text(encoding="utf-8")).substitute(texts, style=style, content=content)
    policy = POLICY
    for kind, source in re.findall(r"<(style|script)>(.*?)</", page, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        policy += f"; {kind}-src 'sha256-{digest}'"
    return page, f"{policy}; connect-src 'self'; img-src blob:" if "<script>" in page else policy
