"""What is looked at before the first call of a run."""
