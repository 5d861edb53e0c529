"""The course and the outcome of a run, as numbers."""
