"""The plan language: data only. Never runs anything."""
