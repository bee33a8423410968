"""Refuses answers that cannot work, for those of a replay file, which met no prompt; the rules are answer_rules.py."""

import json
import sys

SENTENCE = json.loads(bytes.fromhex("{{ cookiecutter | refusal | hex_json }}"))

if SENTENCE:
    sys.exit(f"{SENTENCE} Nothing was generated.")
