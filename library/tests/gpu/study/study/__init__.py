"""A small study: which of ten patterns is in a noisy image."""
