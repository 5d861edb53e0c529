"""Engines: what answers an LLM request. A family of engines has a folder; a kind is found by its entry point."""
