"""The forms of flows on the wire: the rows that clients send, and what they get.

Owns these forms. Never runs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.errors import suggest
from sundog.ir.values.normal_form import NoNormalForm, normal_form
from sundog.serve.wire.errors import Refusal, wrong_request

MAX_ROWS = 1_000
"""The most rows of one request."""
MAX_DEADLINE_S = 30 * 86_400.0
MAX_PRIORITY = 2**31 - 1
MAX_USD = 1e9
MAX_TOKENS = 2**53
FIELDS = ("row", "rows", "stream", "deadline_s", "priority", "max_usd", "max_tokens")


@dataclass(frozen=True, slots=True)
class WantedRun:
    """The wish of a client: rows of a flow."""

    rows: list[dict[str, Any]]
    #: It sent `row`, and gets `row`.
    is_single: bool
    #: It wants to hear of rows, and of steps, as they end.
    is_streamed: bool
    #: Seconds that it gives the run, None for no end.
    deadline_s: float | None
    #: Smaller is sooner.
    priority: int
    #: Dollars and tokens that the run may cost, None for no limit.
    max_usd: float | None = None
    max_tokens: int | None = None


def read_wanted(body: Any, columns: Sequence[str]) -> WantedRun:
    """Return the wish that a body holds; Refusal 400 for a wrong field, 422 for a row that does not fit `columns`."""
    if not isinstance(body, Mapping):
        raise Refusal(400, 'the body is no JSON object, as in {"row": {...}}', is_final=True)
    for name in body:
        if name not in FIELDS:
            raise wrong_request(name, "there is no such field", hint=suggest(name, FIELDS), code="unknown_field")
    if ("row" in body) == ("rows" in body):
        raise wrong_request("rows", 'give one row as "row", or several as "rows"')
    is_single = "row" in body
    return WantedRun(
        _rows([body["row"]] if is_single else body["rows"], columns, is_single=is_single),
        is_single,
        _flag(body, "stream"),
        _number(body, "deadline_s", 0.0, MAX_DEADLINE_S),
        _priority(body),
        _number(body, "max_usd", 0.0, MAX_USD, is_open=False),
        _tokens(body),
    )


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row that has ended."""

    state: str
    #: The output row, or what is kept of a failed one.
    value: Mapping[str, Any]


def run_document(
    request_id: str,
    flow: str,
    status: str,
    *,
    accepted_at: float,
    num_rows: int,
    is_single: bool,
    ended: Mapping[int, ShownRow],
) -> dict[str, Any]:
    """Return a run as clients see it. `status`: running, completed or cancelled. `ended`: rows by place."""
    counts = dict.fromkeys(("done", "failed", "dropped"), 0)
    for row in ended.values():
        counts[row.state] += 1
    shown: dict[str, Any] = {
        "id": request_id,
        "object": "flow.run",
        "flow": flow,
        "status": status,
        "created_at": int(accepted_at),
        "num_rows": num_rows,
        "counts": counts,
    }
    rows = [row_document(place, ended[place]) for place in sorted(ended)]
    if not is_single:
        return shown | {"rows": rows}
    return shown | {"row": rows[0] if rows else None}


def row_document(place: int, row: ShownRow) -> dict[str, Any]:
    """Return a row as clients see it: with its `output`, or with the `error` that it failed with."""
    shown: dict[str, Any] = {"index": place, "state": row.state}
    if row.state == "done":
        shown["output"] = row.value
    elif row.state != "dropped":
        shown["error"] = row.value
    return shown


def _rows(rows: Any, columns: Sequence[str], *, is_single: bool) -> list[dict[str, Any]]:
    if not isinstance(rows, list):
        raise wrong_request("rows", "it is no list of rows")
    if not 1 <= len(rows) <= MAX_ROWS:
        raise wrong_request("rows", f"1 to {MAX_ROWS:,} rows make a request, and these are {len(rows):,}")
    return [_row(row, columns, "row" if is_single else f"rows[{place}]") for place, row in enumerate(rows)]


def _row(row: Any, columns: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise _misfit(where, "a row is an object with a value for each column")
    for column in columns:
        if column not in row:
            hint = suggest(column, set(row) - set(columns)) if set(row) - set(columns) else None
            raise _misfit(f"{where}.{column}", f"the row has no column '{column}'", hint)
    try:
        found: dict[str, Any] = normal_form(row)
    except NoNormalForm as error:
        raise _misfit(where, str(error)) from error
    return found


def _misfit(where: str, what: str, hint: str | None = None) -> Refusal:
    message = f"{where}: {what}; {hint}" if hint else f"{where}: {what}"
    return Refusal(422, message, param=where, code="row_does_not_fit", is_final=True)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise wrong_request(name, "it is true or false")
    return value


def _number(body: Mapping[str, Any], name: str, least: float, most: float, *, is_open: bool = True) -> float | None:
    """Return a number of a body; `is_open`: it must be above the least."""
    value = body.get(name)
    if value is None:
        return None
    is_number = not isinstance(value, bool) and isinstance(value, int | float)
    if not is_number or not least <= value <= most or (is_open and value == least):
        least_text = f"above {least:g}" if is_open else f"from {least:g}"
        raise wrong_request(name, f"it is a number {least_text}, {most:,g} at most")
    return float(value)


def _tokens(body: Mapping[str, Any]) -> int | None:
    value = body.get("max_tokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_TOKENS:
        raise wrong_request("max_tokens", "it is a whole number of tokens")
    return value


def _priority(body: Mapping[str, Any]) -> int:
    value = body.get("priority", 0)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_PRIORITY:
        raise wrong_request("priority", "it is a whole number; smaller is sooner")
    return value
