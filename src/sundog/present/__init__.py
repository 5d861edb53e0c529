"""Present: plans, estimates and what came of them, as documents, text and pages. Never plans, never runs anything."""
