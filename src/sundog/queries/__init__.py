"""Queries of tables as text: read, judged and edited. Never connects, never runs one."""
