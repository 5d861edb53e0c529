"""The doors: what of HTTP leads to which part of the live host."""
