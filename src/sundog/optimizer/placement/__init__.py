"""Placement: which replicas run which steps of one batch, and in what order. Pure: no clock, no I/O."""
