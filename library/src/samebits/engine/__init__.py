"""What a training loads; it imports nothing of the other folders."""

__version__ = "1.1.0"  # of the library; pyproject.toml says it, too
