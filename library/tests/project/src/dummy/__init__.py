"""A run is a function: inputs and environment in, outputs out. `train.py` is the place to start reading."""
