"""The wing of runs that are simulated again from their own event logs."""
