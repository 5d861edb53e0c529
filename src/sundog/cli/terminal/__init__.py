"""The terminal on which a command runs: its streams, its signals and its completion."""
