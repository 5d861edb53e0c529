"""Flows written in Python: calls that make the data that a flow file would hold."""
