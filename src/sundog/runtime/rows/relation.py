"""The driving rows with their partners and their numbers, as SQL.

Owns the SQL of numbering, joining, filtering and ordering. Never runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sundog.errors import Location
from sundog.ir.templates.template import Path
from sundog.runtime.rows.table import InputTable


@dataclass(frozen=True, slots=True)
class Joined:
    """A table that is joined where its column `own_column` equals the driving column `driving_column`."""

    table: InputTable
    own_column: str
    driving_column: str
    location: Location | None


class Relation:
    """This class is the input as one query. `joins` to `driver`; `values`: paths of the row, as in ("row", "topic"), to
    group by or to count."""

    def __init__(self, driver: InputTable, joins: Sequence[Joined], values: Sequence[Path] = ()) -> None:
        self._driver = driver
        self._joins = tuple(joins)
        self._values = tuple(values)

    def rows(self, start_row: int, end_row: int) -> str:
        """Return the columns of `Splitter`, by number, from row `start_row` to before `end_row`."""
        return f"{self._select(self._columns())} WHERE {_within(start_row, end_row)} ORDER BY d.row_index"

    def chosen(self, numbers: Sequence[int]) -> str:
        """Return the columns of `Splitter` of the rows with these numbers, in their order."""
        listed = f"SELECT unnest([{', '.join(map(str, numbers))}]::BIGINT[])"
        return f"{self._select(self._columns())} WHERE d.row_index IN ({listed}) ORDER BY d.row_index"

    def grouped_rows(self, start_row: int, end_row: int, table: str) -> tuple[str, str]:
        """Return the same, with rows equal in `values` side by side: a statement that makes `table`, and a query on it.

        The values' hashes order the rows: texts are wide keys. And the rows are kept first: to read wide rows, as of
        large parquet row groups, and to sort them at once takes more memory than there may be.
        """
        columns = [f"{column} AS x{index}" for index, column in enumerate(self._columns())]
        hashes = [f"hash({self._value(path)}) AS h{number}" for number, path in enumerate(self._values)]
        make = f"CREATE TABLE {table} AS {self._select([*columns, *hashes])} WHERE {_within(start_row, end_row)}"
        shown = ", ".join(f"x{index}" for index in range(len(columns)))
        by = ", ".join([*(f"h{number}" for number in range(len(hashes))), "x0"])
        return make, f"SELECT {shown} FROM {table} ORDER BY {by}"

    def group_sizes(self, end_row: int, least: int, numbers: Sequence[int] | None, num_characters: int) -> str:
        """Write the query of a row for each different first value of `values`, in the order of `grouped_rows`: how many
        rows have it, and where these are more than `least`, the beginning of its text. `numbers`: those of the rows
        that count, None for all before `end_row`."""
        value = self._value(self._values[0])
        columns = [f"hash({value}) AS h", f"left(CAST({value} AS VARCHAR), {num_characters}) AS shown"]
        rows = _within(0, end_row)
        if numbers is not None:
            rows = f"d.row_index IN (SELECT unnest([{', '.join(map(str, numbers))}]::BIGINT[]))"
        shown = f"CASE WHEN count(*) > {least} THEN any_value(shown) END"
        return f"SELECT count(*), {shown} FROM ({self._select(columns)} WHERE {rows}) GROUP BY h ORDER BY h"

    def statistics(
        self, sets: Sequence[Sequence[Path]], measured: Sequence[Path], end_row: int, *, is_exact: bool
    ) -> str:
        """Write the query of one row: for each of `sets` its different combinations, for each value of `measured` its
        length. An exact count takes memory for each combination, and reads no row from `end_row` on."""
        hashes = (f"hash({', '.join(self._value(path) for path in one)})" for one in sets)
        count = "count(DISTINCT {})" if is_exact else "approx_count_distinct({})"
        lengths = (f"avg(length({self._value(path)}))" for path in measured)
        columns = [*(count.format(one) for one in hashes), *lengths] or ["0"]
        return f"{self._select(columns, end_row if is_exact else None)} WHERE {_within(0, end_row)}"

    def _columns(self) -> list[str]:
        columns = ["d.row_index", *(f"d.c{index}" for index in range(self._driver.scan().width))]
        for number, joined in enumerate(self._joins):
            width = joined.table.scan().width
            columns += [f"j{number}.k IS NOT NULL", *(f"j{number}.c{index}" for index in range(width))]
        return columns

    def _select(self, columns: Sequence[str], num_rows: int | None = None) -> str:
        """Write the query for `columns`, of the first `num_rows` driving rows where it is given."""
        scan = self._driver.scan()
        keys = [
            f"{self._driver.key(joined.driving_column).expression} AS k{number}"
            for number, joined in enumerate(self._joins)
        ]
        driving = ", ".join(["row_number() OVER () - 1 AS row_index", *keys, *self._expressions(None), "*"])
        first = "" if num_rows is None else f" LIMIT {num_rows}"
        parts = [f"d AS (SELECT {driving} FROM ({scan.select}{first}))"]
        clauses = []
        for number, joined in enumerate(self._joins):
            key = f"{joined.table.key(joined.own_column).expression} AS k"
            selected = ", ".join([key, *self._expressions(joined), "*"])
            parts.append(f"j{number} AS (SELECT {selected} FROM ({joined.table.scan().select}))")
            clauses.append(f"LEFT JOIN j{number} ON j{number}.k = d.k{number}")
        return f"WITH {', '.join(parts)} SELECT {', '.join(columns)} FROM d {' '.join(clauses)}"

    def _expressions(self, of: Joined | None) -> Iterator[str]:
        """Yield those of `values` that are of the driving table (None) or of a joined one."""
        for number, path in enumerate(self._values):
            joined = self._joined(path)
            if joined is of and (joined is None or len(path) > 2):
                table, inside = (self._driver, path[1:]) if joined is None else (joined.table, path[2:])
                yield f"{table.value(inside)} AS v{number}"

    def _value(self, path: Path) -> str:
        """Return a value as a column; of a partner's whole row, its key."""
        joined = self._joined(path)
        if joined is None:
            return f"d.v{self._values.index(path)}"
        number = self._joins.index(joined)
        return f"j{number}.v{self._values.index(path)}" if len(path) > 2 else f"CAST(j{number}.k AS VARCHAR)"

    def _joined(self, path: Path) -> Joined | None:
        return next((joined for joined in self._joins if joined.table.files.name == path[1]), None)


def _within(start_row: int, end_row: int) -> str:
    return f"d.row_index >= {start_row} AND d.row_index < {end_row}"
