"""Reading the data card: the table at the top of data/README.md."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {"title": "Title", "licence": "Licen[cs]e", "address": "Persistent address"}


def read_card(path: Path) -> dict[str, str | None]:
    """Read title, licence and persistent address; None for what the card does not say."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = {key: re.search(rf"^\|\s*{name}\s*\|\s*(.*?)\s*\|\s*$", text, re.M | re.I) for key, name in ROWS.items()}
    return {key: match[1].strip("<>") if match else None for key, match in found.items()}
