"""Verdicts on runs: train again, compare with the record, say what was found. verify.py and compare.py call it."""
