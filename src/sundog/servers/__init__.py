"""Servers of ours: how they are started, recorded, watched and ended."""
