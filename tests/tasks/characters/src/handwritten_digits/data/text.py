"""What a sample is here: a window of text, a number for each character (the bytes of UTF-8)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import samebits

CONTEXT = 32  # characters that the next one is predicted from, at most


def read_text(path: Path) -> np.ndarray:
    """Read a file as uint8 (N,); a UserError where there is none, or nothing in it."""
    text = np.frombuffer(path.read_bytes() if path.is_file() else b"", np.uint8)
    if len(text) == 0:
        raise samebits.UserError(f"{path} is empty or no file: give the path of a text.")
    return text
