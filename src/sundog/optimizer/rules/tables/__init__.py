"""Rules over the tables of a flow: what a query shows of a table, and what may move through it."""
