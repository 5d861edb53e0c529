"""This room is the live host: flows and model calls as they come, on one scheduler core, one store and one set of
engines."""
