"""Nodes as they are drafted, and steps that another may stand in for."""
