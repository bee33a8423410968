"""What an installer says is one line, which changes; all of it where it fails."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from .baking import SOURCE

PROGRESS = [sys.executable, str(SOURCE / "requirements/progress.py")]
SAYS = "import sys, time; print('Resolved 3 packages'); print(' + a==1\\n' * 200); time.sleep(float(sys.argv[2]));"
SAYS += "print('\\x1b]0;title\\x07' + 'b' * 500, file=sys.stderr); sys.exit(int(sys.argv[1]))"


def run(status: int, seconds: float = 0) -> list[str]:
    return [*PROGRESS, sys.executable, "-u", "-c", SAYS, str(status), str(seconds)]


def test_without_a_terminal_it_is_a_sentence() -> None:
    done = subprocess.run(run(0), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Installed in 0 s.\n", "")


def test_where_it_fails_all_is_told() -> None:
    done = subprocess.run(run(3), capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.count(" + a==1\n") == 200 and "b" * 500 in done.stderr


def test_on_a_terminal_one_line_follows_it() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(run(0, 1.2), stdout=theirs, env=os.environ | {"COLUMNS": "60"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # the end, on Linux
            pass
    os.close(ours)
    assert process.returncode == 0
    *lines, last = shown.decode().replace("\r\n", "\n").split("\r")
    assert last == "\x1b[KInstalled in 1 s.\n" and not any("\n" in line for line in lines)
    assert all(len(line) <= 60 for line in lines) and "\x07" not in shown.decode()
    assert [line for line in lines if line.startswith("    1 s ")], "no second was counted"
