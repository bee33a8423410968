"""The research itself: `data/` says what a sample is, `models/` how it is learnt; `train.py` is the place to start."""
