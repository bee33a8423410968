"""Views of results: they read what runs have left, and change nothing of it. Training imports none of it."""
