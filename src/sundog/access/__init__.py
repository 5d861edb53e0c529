"""API keys of a state folder: who asks, what they may use, and what they may spend."""
