"""Rows in and files out, on DuckDB and PyArrow. Never runs a step, never touches the store."""
