"""Chromium without a window, driven through two pipes: a page, and scripts that are run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

# the browser reads at 3 and writes at 4
PIPES = """
import os, sys
for number, place in ((int(sys.argv[1]), 100), (int(sys.argv[2]), 101), (100, 3), (101, 4)):
    os.dup2(number, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str:
    """Find the browser; skip without one, but fail where it must be there."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None and os.environ.get("REQUIRE_CHROMIUM"):
        pytest.fail("REQUIRE_CHROMIUM is set, but there is no Chromium")
    return found or pytest.skip("there is no Chromium")


@dataclass
class Page:
    """A page of the browser.

    Attributes:
        events: what it told besides answers, as requests and messages of its console.
    """

    to: IO[bytes]
    back: IO[bytes]
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the DevTools protocol."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": parameters}
        self.to.write(json.dumps(asked | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        self.to.flush()
        while True:
            said = b""
            while not said.endswith(b"\0"):
                more = self.back.read(1)
                assert more, "the browser has ended"
                said += more
            found = json.loads(said[:-1])
            if found.get("id") == self.number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def run(self, script: str) -> Any:
        """Run a script in the page, and return its value."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """Run a script until its value is true."""
        until = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < until, (script, self.events[-5:])
            time.sleep(0.1)
        return found


@contextmanager
def opened(address: str, folder: Path) -> Iterator[Page]:
    """Open a page."""
    (there, to), (back, here) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    words = [sys.executable, "-c", PIPES, str(there), str(here), chromium(), *options, "about:blank"]
    with subprocess.Popen(
        words, pass_fds=(there, here), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        os.close(there)
        os.close(here)
        try:
            with os.fdopen(to, "wb") as writing, os.fdopen(back, "rb") as reading:
                page = Page(writing, reading)
                (target, *_) = (
                    each for each in page.call("Target.getTargets")["targetInfos"] if each["type"] == "page"
                )
                attached = page.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
                page.session = attached["sessionId"]
                for domain in ("Network", "Log", "Runtime", "Page"):
                    page.call(f"{domain}.enable")
                page.call("Page.navigate", url=address)
                page.wait("document.readyState == 'complete' && location.href != 'about:blank'")
                yield page
        finally:
            process.kill()
