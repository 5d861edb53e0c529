"""The doors of the live host."""
