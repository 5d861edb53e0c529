"""Conversations of agents as they run: turns, uses of tools, and what ends them."""
