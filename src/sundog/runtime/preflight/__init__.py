"""The inspection before the first call of a run."""
