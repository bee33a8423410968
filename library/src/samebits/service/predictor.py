"""The server's side of the process that predicts: starts it, asks it, ends it when it takes too long."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.project import project

LONGEST_ANSWER = 2**26  # bytes
LONGEST_START = 300  # seconds


class Unavailable(Exception):
    """There is no answer now; its text says in a sentence why."""


class Predictor:
    """Predicts by a run's model, a request at a time, within a time.

    Args:
        run: its directory.
        weights: the digest of its weights: another training may take their place while others are served.
        seconds: that a request may wait, and again that it may take.
    """

    def __init__(self, run: Path, weights: str, seconds: float) -> None:
        self.run, self.weights, self.seconds = run, weights, seconds
        self.turn = asyncio.Lock()
        self.process: asyncio.subprocess.Process | None = None
        self.described: dict[str, Any] = {}

    async def start(self) -> None:
        """Start the process; when it has loaded the model, `described` says what may be asked, as worker.describe does.

        Raises:
            UserError: the model cannot be loaded.
        """
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "samebits.service.worker", str(self.run)),
            cwd=project().root,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_ANSWER,
        )
        found = await self._exchange(None, LONGEST_START)
        if found is None or "error" in found:
            await self.stop()
            raise UserError(found["error"] if found else f"{self.run} could not be loaded, as it says above.")
        if found["weights"] != self.weights:
            await self.stop()
            raise UserError("the run here has other weights now than those that are served: start the service again.")
        self.described = found

    async def ask(self, path: Path | None, options: dict[str, Any]) -> dict[str, Any]:
        """Predict what is in a file, or without one.

        Returns:
            The `answer`, or in one sentence an `error` of the input.

        Raises:
            Unavailable: others took all of the time, this did, or the process has ended.
        """
        try:
            await asyncio.wait_for(self.turn.acquire(), self.seconds)
        except TimeoutError:
            raise Unavailable("too many others are waiting: ask again later.") from None
        try:
            if self.process is None:
                await self.start()
            found = await self._exchange({"path": path and str(path), "options": options}, self.seconds)
        except TimeoutError:
            raise Unavailable(f"this took more than {self.seconds:g} seconds: ask for less.") from None
        except UserError as error:
            raise Unavailable(str(error)) from None
        finally:
            self.turn.release()
        if found is None:
            raise Unavailable("the process that predicts has ended in the middle of this: ask for less.")
        return found

    async def _exchange(self, request: dict[str, Any] | None, seconds: float) -> dict[str, Any] | None:
        """Send a line, or none, and read one; None where the process ended, or took too long and was ended."""
        assert self.process and self.process.stdin and self.process.stdout
        line = b""
        try:
            async with asyncio.timeout(seconds):
                if request:
                    self.process.stdin.write(json.dumps(request).encode() + b"\n")
                line = await self.process.stdout.readline()
        except ValueError:
            raise Unavailable("the answer is too long: ask for less.") from None
        finally:
            if not line:
                await self.stop()
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    async def stop(self) -> None:
        """End the process."""
        process, self.process = self.process, None
        if process and process.returncode is None:
            process.kill()
            await process.wait()
