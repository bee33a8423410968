"""A search for good settings: what may vary, what was tried, and the trainings that try it."""
