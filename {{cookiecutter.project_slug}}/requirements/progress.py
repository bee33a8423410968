"""Runs an installer and shows what it is at in one line; all that it said where it fails.

install.sh calls `python requirements/progress.py uv pip install -r requirements/main.txt`.
"""

import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time


def run(command: list[str]) -> int:
    """Run it, and return its exit status."""
    began, said, lines = time.monotonic(), ["Looking for what there is"], queue.SimpleQueue()
    # the descriptors of install.sh, too: its lock is held until the installer ends
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=False, text=True, errors="replace"
    ) as process:
        threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put(None)]).start()
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                line = said.pop()  # again, with another second
            if line is None:
                break
            said.append(line)
            if sys.stdout.isatty():
                shown = re.sub(r"\x1b\[\d*m|[\0-\x1f]", "", line).strip()
                if shown.startswith("Installed") and "--compile-bytecode" in command:
                    shown += ", compiling all of them"  # of which uv says nothing until it is done
                width = shutil.get_terminal_size().columns - 8
                print(f"\r{time.monotonic() - began:5.0f} s {shown[:width]:{width}}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
    if process.returncode:
        print(*said[1:], sep="", file=sys.stderr)
        return process.returncode
    print(f"Installed in {time.monotonic() - began:.0f} s.")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(run(sys.argv[1:]))
