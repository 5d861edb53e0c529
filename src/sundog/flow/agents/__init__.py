"""Agents and their tools: what a flow says of them, as nodes of a plan."""
