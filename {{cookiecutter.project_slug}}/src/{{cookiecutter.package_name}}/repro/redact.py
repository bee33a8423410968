"""Takes passwords and tokens out of what is written down."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"
LOGIN = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")  # user:password of an address
WORDS = "token|key|secret|passw|signature|sig|credential|auth"
QUERY = re.compile(rf"(?i)([?&][^=&#\s'\"]*(?:{WORDS})[^=&#\s'\"]*=)[^&#\s'\"]+")


def redact(value: Any) -> Any:
    """Replace logins and secret parameters of addresses by ***, in a text or in nested dicts and lists of texts."""
    if isinstance(value, dict):
        return {key: redact(each) for key, each in value.items()}
    if isinstance(value, list):
        return [redact(each) for each in value]
    if isinstance(value, str):
        return QUERY.sub(rf"\1{HIDDEN}", LOGIN.sub(HIDDEN, value))
    return value
