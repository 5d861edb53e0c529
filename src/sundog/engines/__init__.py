"""Engines: what answers an LLM request. One file each; found by entry point."""
