"""The `sql` step: one statement on a database."""
