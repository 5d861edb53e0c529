"""The differences of a query between the databases: full-text search only. Queries are written as SQLite has them."""

from __future__ import annotations

SEARCH = "id in (select rowid from document_text where document_text match :words)"
SERVER_SEARCH = "to_tsvector('simple', body) @@ plainto_tsquery('simple', :words)"


def adapt(query: str, database: str) -> str:
    """`query` as the kind of `database` (a URL) writes it."""
    return query if database.startswith("sqlite") else query.replace(SEARCH, SERVER_SEARCH)
