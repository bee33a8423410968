"""The engine: what makes a run a pure function of its inputs. It knows nothing of the task."""
