"""Classes as the form of an answer: a pydantic model, a dataclass or a TypedDict becomes JSON Schema.

Owns the translation. Schemas are written out in full, for engines that know no references, every field is required and
there are no others, as in the short form of `output`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import PydanticUserError, TypeAdapter, create_model
from pydantic.errors import PydanticSchemaGenerationError

_DROPPED = {"title", "default", "discriminator", "$defs"}
"""The keys that say nothing about the answer: names of Python, values for fields that are not there, hints for a
parser."""
_EXAMPLE = "a field is str, int, float, bool, a Literal, an Enum, Optional, a list, or a class with such fields"


def output_of(written: Any) -> Any:
    """Return `output` as a flow file would hold it: classes as JSON Schema, the names of scalars for str, int, float
    and bool. ValueError with the field that cannot be taken."""
    if isinstance(written, type):
        return {"json_schema": _schema_of(written)}
    if isinstance(written, Mapping):
        return {name: _named(value) for name, value in written.items()}
    return written


def _named(value: Any) -> Any:
    if value in (str, int, float, bool):
        return value.__name__
    if isinstance(value, type) or getattr(value, "__origin__", None) is not None:
        raise ValueError(
            f"{value!r} stands in a mapping of fields; write a class with fields for the whole, and give that"
        )
    return output_of(value) if isinstance(value, Mapping) else value


def _schema_of(kind: type) -> dict[str, Any]:
    try:
        schema = TypeAdapter(_readable(kind, ())).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        where = next(_wrong_fields(kind), None)
        what = f"'{where}' has no JSON form: {_EXAMPLE}" if where else f"{kind.__name__}: {str(error).splitlines()[0]}"
        raise ValueError(what) from error
    plain: dict[str, Any] = _written_out(schema, schema.get("$defs", {}), kind.__name__, ())
    if plain.get("type") != "object" or not plain.get("properties"):
        raise ValueError(f"{kind.__name__} has no fields; give a pydantic model, a dataclass or a TypedDict")
    return plain


def _readable(hint: Any, above: tuple[Any, ...]) -> Any:
    """Return `hint` with a model for each TypedDict: before Python 3.12 pydantic does not read those of `typing`."""
    if is_typeddict(hint):
        if hint in above:
            raise ValueError(f"{hint.__name__} holds itself; write the levels out as classes of their own")
        hints = get_type_hints(hint, include_extras=False)
        annotated = get_type_hints(hint, include_extras=True)
        fields = {
            name: _readable(
                annotated[name] if get_origin(annotated[name]) is Annotated else hints[name], (*above, hint)
            )
            for name in hints
        }
        required: dict[str, Any] = {name: (field, ...) for name, field in fields.items()}
        return create_model(hint.__name__, **required)
    origin, arguments = get_origin(hint), get_args(hint)
    if not arguments or origin is Literal:
        return hint
    if origin is Annotated:
        return Annotated[(_readable(arguments[0], above), *arguments[1:])]
    inner = tuple(_readable(argument, above) for argument in arguments)
    return Union[inner] if origin in (Union, UnionType) else origin[inner]  # noqa: UP007 - of arguments in a tuple


def _wrong_fields(kind: type) -> Iterator[str]:
    """Yield the fields of a class that alone have no JSON Schema."""
    for name, hint in getattr(kind, "__annotations__", {}).items():
        try:
            TypeAdapter(_readable(hint, ())).json_schema()
        except (PydanticUserError, PydanticSchemaGenerationError):
            yield f"{kind.__name__}.{name}"


def _written_out(schema: Any, definitions: Mapping[str, Any], where: str, above: tuple[str, ...]) -> Any:
    """Return `schema` with what it refers to in place of the references."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in above:
            raise ValueError(f"'{where}' holds {name} inside itself; write the levels out as classes of their own")
        return _written_out({**definitions[name], **_without(schema, "$ref")}, definitions, where, (*above, name))
    found = {key: value for key, value in schema.items() if key not in _DROPPED}
    for key in ("anyOf", "oneOf", "allOf"):
        if key in found:
            options = [_written_out(option, definitions, where, above) for option in found.pop(key)]
            return {**found, **options[0]} if len(options) == 1 else {**found, "anyOf": options}
    if found.get("type") == "object":
        return _fields(found, definitions, where, above)
    if found.get("type") == "array" and "items" in found:
        found["items"] = _written_out(found["items"], definitions, f"{where}[]", above)
    elif "prefixItems" in found:
        found["prefixItems"] = [_written_out(item, definitions, f"{where}[]", above) for item in found["prefixItems"]]
    elif not {"type", "enum", "const"} & found.keys():
        raise ValueError(f"'{where}' may be anything: {_EXAMPLE}")
    return found


def _fields(
    schema: dict[str, Any], definitions: Mapping[str, Any], where: str, above: tuple[str, ...]
) -> dict[str, Any]:
    properties = schema.get("properties", {})
    if not properties:
        raise ValueError(f"'{where}' has no fixed fields: give a class with fields, or a list of pairs")
    return {
        **schema,
        "properties": {
            name: _written_out(one, definitions, f"{where}.{name}", above) for name, one in properties.items()
        },
        "required": list(properties),
        "additionalProperties": False,
    }


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
