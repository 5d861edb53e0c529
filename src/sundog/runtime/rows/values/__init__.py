"""Values of SQL as JSON types: what DuckDB selects, and what rows are made of it."""
