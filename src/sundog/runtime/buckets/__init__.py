"""Buckets of a table's rows: where one ends and the next begins, and their files. Never runs a row, never reads the
input."""
