"""sundog."""
