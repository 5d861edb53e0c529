"""The scheduler core and its policies: events in, actions out. No clock, no randomness, no I/O."""
