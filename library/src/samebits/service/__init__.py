"""A run's predictions over HTTP: `samebits serve`."""
