"""Hydra groups that come with the library; a file of the same name in the project wins."""
