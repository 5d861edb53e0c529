"""Films: 17,472 of Wikidata (CC0), as the package bokeh-sampledata carries them. Imports nothing of that package."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from halo.data.database import Table, Value

FILM = {
    "id": "integer",
    "title": "text",
    "year": "integer",
    "runtime": "integer",
    "genre": "text",
    "language": "text",
    "country": "text",
    "oscars": "integer",
}
REVIEW = {"film_id": "integer", "meter": "integer", "reviews": "integer", "box_office": "integer", "studio": "text"}
CREDIT = {"film_id": "integer", "role": "text", "name": "text"}
WORD = re.compile(r"[A-Za-z]{4,}")
MIN_FILMS, MAX_FILMS = 2, 40


def tables() -> list[Table]:
    films = list(_read("select * from omdb order by ID"))
    reviews = _read("select * from tomatoes order by ID")
    return [
        Table("film", FILM, [_film(film) for film in films], ("year",)),
        Table("review", REVIEW, [_review(review) for review in reviews], ("film_id",)),
        Table("credit", CREDIT, [credit for film in films for credit in _credits(film)], ("film_id",)),
    ]


def keywords() -> list[str]:
    """Words that stand in the titles of some films, but not of many; in alphabetical order."""
    counts: Counter[str] = Counter()
    for film in _read("select Title from omdb"):
        counts.update({word.lower() for word in WORD.findall(film["Title"])})
    return sorted(word for word, count in counts.items() if MIN_FILMS <= count <= MAX_FILMS)


def _read(query: str) -> Iterator[dict[str, Any]]:
    path = Path(str(distribution("bokeh-sampledata").locate_file("bokeh_sampledata/_data/movies.db")))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        yield from map(dict, connection.execute(query))


def _film(film: dict[str, Any]) -> tuple[Value, ...]:
    runtime = None if film["Runtime"] is None else int(film["Runtime"])
    rest = (film["Language"], film["Country"], film["Oscars"])
    return (film["ID"], film["Title"], film["Year"], runtime, film["Genre"], *rest)


def _review(review: dict[str, Any]) -> tuple[Value, ...]:
    box_office = None if review["BoxOffice"] is None else int(review["BoxOffice"])
    return (review["ID"], review["Meter"], review["Reviews"], box_office, review["Production"])


def _credits(film: dict[str, Any]) -> Iterator[tuple[Value, ...]]:
    for role, column in (("director", "Director"), ("writer", "Writer"), ("cast", "Cast")):
        for name in (film[column] or "").split(", "):
            if name:
                yield film["ID"], role, name
