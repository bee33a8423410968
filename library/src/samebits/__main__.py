"""`python -m samebits`: the same as the command `samebits`."""

from .cli import main

main()
