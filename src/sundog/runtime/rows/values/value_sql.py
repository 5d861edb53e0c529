"""DuckDB values as JSON types, in SQL.

Owns what each DuckDB type becomes, alone and inside lists, structs, maps and unions: whole numbers stay whole,
decimals, dates and times become text, blobs base64, NaN and infinities null. Never runs anything.
"""

from __future__ import annotations

from duckdb.sqltypes import DuckDBPyType

from sundog.runtime.rows.duck import literal

WHOLE_TYPES = {
    "tinyint", "smallint", "integer", "bigint", "hugeint",
    "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint",
}  # fmt: skip
TEXT_TYPES = {"varchar", "enum"}
FLOATING = {"float", "double"}
NESTED = {"struct", "list", "array", "map", "union", "variant", "tuple"}


def is_json(type: DuckDBPyType) -> bool:
    return str(type) == "JSON"


def children_of(type: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    if type.id not in NESTED or type.id == "variant":
        return []
    found = [(name, child) for name, child in type.children if isinstance(child, DuckDBPyType)]
    return found[1:] if type.id == "union" and found[0][0] == "" else found  # the tag


def selected(type: DuckDBPyType, source: str) -> str:
    """Return an expression for the column `source` of `type`: JSON text where the type is nested, else the value
    itself."""
    return f"CAST(to_json({_form(type, source, 0)}) AS VARCHAR)" if type.id in NESTED else _form(type, source, 0)


def num_not_finite(type: DuckDBPyType, source: str, depth: int = 0) -> str | None:
    """Return an expression for how many NaN and infinities `source` holds; None where its type cannot hold any."""
    children = dict(children_of(type))
    match type.id:
        case id if id in FLOATING:
            return f"CASE WHEN isfinite({source}) OR {source} IS NULL THEN 0 ELSE 1 END"
        case "struct" | "tuple":
            return _sum([num_not_finite(child, field, depth) for _, field, child in _fields(type, source)])
        case "list" | "array":
            return _sum_of_items(children["child"], source, depth)
        case "map":
            return _sum_of_items(children["value"], f"map_values({source})", depth)
        case "union":
            return _sum([num_not_finite(child, _member(source, name), depth) for name, child in children.items()])
    return None


def _form(type: DuckDBPyType, source: str, depth: int) -> str:
    """Return `source` in types of which to_json makes what is meant. `depth`: lists around it, each with a variable."""
    match type.id:
        case _ if is_json(type):
            return source
        case id if id == "boolean" or id in WHOLE_TYPES or id in TEXT_TYPES:
            return source
        case id if id in FLOATING:
            return f"CASE WHEN isfinite({source}) THEN {source} END"
        case "decimal":
            return f"CAST({source} AS {'HUGEINT' if dict(type.children)['scale'] == 0 else 'VARCHAR'})"
        case id if id.startswith("timestamp"):
            return f"replace(CAST({source} AS VARCHAR), ' ', 'T')"
        case "blob":
            return f"base64({source})"
        case id if id in NESTED:
            return _nested_form(type, source, depth)
    return f"CAST({source} AS VARCHAR)"


def _nested_form(type: DuckDBPyType, source: str, depth: int) -> str:
    children = dict(children_of(type))
    match type.id:
        case "struct" | "tuple":
            fields = [(name, _form(child, field, depth)) for name, field, child in _fields(type, source)]
            is_named = all(name for name, _ in fields)
            named = f"{{{', '.join(f'{literal(name)}: {form}' for name, form in fields)}}}"
            in_order = f"json_array({', '.join(form for _, form in fields)})"
            return f"CASE WHEN {source} IS NOT NULL THEN {named if is_named else in_order} END"
        case "list" | "array":
            return _items(children["child"], source, depth)
        case "map":
            values = _items(children["value"], f"map_values({source})", depth)
            return f"MAP(map_keys({source}), {values})"
        case "union":
            members = (
                f"WHEN {literal(name)} THEN json_object({literal(name)}, {_form(child, _member(source, name), depth)})"
                for name, child in children.items()
            )
            return f"CASE union_tag({source}) {' '.join(members)} END"
    return source


def _items(type: DuckDBPyType, source: str, depth: int) -> str:
    variable = f"e{depth}"
    return f"[{_form(type, variable, depth + 1)} FOR {variable} IN {source}]"


def _sum_of_items(type: DuckDBPyType, source: str, depth: int) -> str | None:
    variable = f"e{depth}"
    count = num_not_finite(type, variable, depth + 1)
    return None if count is None else f"coalesce(list_sum([{count} FOR {variable} IN {source}]), 0)"


def _sum(parts: list[str | None]) -> str | None:
    known = [f"({part})" for part in parts if part is not None]
    return " + ".join(known) or None


def _fields(type: DuckDBPyType, source: str) -> list[tuple[str, str, DuckDBPyType]]:
    """Return (name, expression, type) of each field of a struct; those without names are known by their place."""
    return [
        (name, f"struct_extract({source}, {literal(name) if name else place})", child)
        for place, (name, child) in enumerate(children_of(type), start=1)
    ]


def _member(source: str, name: str) -> str:
    return f"union_extract({source}, {literal(name)})"
