"""The commands of the live host."""
