"""JSON Schema within bounds: which schemas can be checked at all, and the check of one answer.

Owns the checks of patterns and references before a run, and the number of steps that an answer's check may take.
Patterns are those of Rust's `regex` (pydantic has it): they are matched in a time that grows with the text only, and
so have no look-around and no back-references.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema import FormatChecker, SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, extend, validator_for
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

MAX_CHECK_STEPS = 200_000
"""One answer's check takes at most so many steps: rules applied, and values that a rule goes through.
That is a second or two of one processor."""
MAX_IN_PLACE = 100
"""Schemas that are applied to one and the same value, one through the other."""
MAX_SHOWN_MISTAKES = 100

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]

# Below these stand values, not schemas.
_DATA = frozenset({"enum", "const", "default", "examples"})
# Below these stand schemas by a name of the user's, which may be one of those above.
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_MAPPINGS = ("dependentSchemas", "dependencies")


class CheckTooLong(ValueError):
    """Raised where the check of an answer takes more steps than it may; caught by output_schema as a ValueError."""


class _Account(FormatChecker):
    """The steps of one check, where jsonschema hands it from rule to rule; formats are not checked."""

    def __init__(self) -> None:
        super().__init__(formats=())
        self.num_steps = 0

    def check(self, instance: object, format: str) -> None:
        """Do nothing: formats are not checked."""

    def step(self, number: int) -> None:
        self.num_steps += number
        if self.num_steps > MAX_CHECK_STEPS:
            raise CheckTooLong(f"checking the answer takes more than {MAX_CHECK_STEPS:,} steps")


def find_answer_mistake(value: Any, schema_text: str) -> str | None:
    """Return the first place where `value` does not fit the schema, and how; None where it fits. ValueError and
    RecursionError for what cannot be checked within bounds."""
    mistakes = find_answer_mistakes(value, schema_text)
    return mistakes[0] if mistakes else None


def find_answer_mistakes(value: Any, schema_text: str) -> list[str]:
    """Return the places where `value` does not fit the schema, and how, in their order. Raises as above."""
    validator = _validator(schema_text).evolve(format_checker=_Account())
    mistakes = sorted(islice(validator.iter_errors(value), MAX_SHOWN_MISTAKES), key=lambda one: one.json_path)
    return [f"{mistake.json_path}: {mistake.message}" for mistake in mistakes]


def check_schema(schema: dict[str, Any]) -> None:
    """Raise ValueError for what is no JSON Schema, or none that can be checked without the network and within
    bounds."""
    if not isinstance(schema.get("$schema", ""), str):
        raise ValueError("'json_schema' is no JSON Schema: its '$schema' is no text")
    try:
        _check_patterns(schema)
        kind: Any = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema, format_checker=FormatChecker(formats=()))
        _check_references(schema)
    except SchemaError as error:
        raise ValueError(f"'json_schema' is no JSON Schema: {error.json_path}: {error.message}") from error
    except RecursionError as error:
        raise ValueError("'json_schema' is nested too deeply") from error


@lru_cache(maxsize=256)
def _validator(schema_text: str) -> Validator:
    schema = json.loads(schema_text)
    # An empty registry: a schema that names a web address must not make a run fetch it.
    validator: Validator = _bounded(validator_for(schema, default=Draft202012Validator))(schema, registry=Registry())
    return validator


@lru_cache(maxsize=16)
def _bounded(kind: Any) -> Any:
    """Return the kind of validator whose rules count their steps, and whose patterns are matched in linear time."""
    own: dict[str, Keyword] = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
    }
    rules = {**kind.VALIDATORS, **{name: rule for name, rule in own.items() if name in kind.VALIDATORS}}
    return extend(kind, {name: _counting(rule) for name, rule in rules.items()})  # type: ignore[no-untyped-call]  # jsonschema has no types for it


def _counting(rule: Keyword) -> Keyword:
    def counted(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        validator.format_checker.step(1 + (len(wanted) if isinstance(wanted, list | dict) else 0))
        return rule(validator, wanted, instance, schema) or iter(())

    return counted


# -- patterns


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _matches(pattern: str, text: str) -> bool:
    """Return whether the pattern is found anywhere in the text."""
    return _matcher(pattern).isinstance_python(text)


def _pattern(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(wanted, instance):
        yield ValidationError(f"{_short(instance)} does not match {_short(wanted)}")


def _pattern_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, inner in wanted.items():
            for name, value in instance.items():
                if _matches(pattern, name):
                    yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in known or any(_matches(pattern, name) for pattern in patterns):
            continue
        if wanted is False:
            yield ValidationError(f"Additional properties are not allowed ({_short(name)} was unexpected)")
        else:
            yield from validator.descend(value, wanted, path=name)


def _unique_items(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if wanted and validator.is_type(instance, "array"):
        seen = {json.dumps(_comparable(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("an element is there twice")


def _comparable(value: Any) -> Any:
    """Return a value whose JSON is equal for values that are equal in JSON Schema's eyes: 1.0 is 1."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_comparable(item) for item in value]
        case dict():
            return {name: _comparable(item) for name, item in value.items()}
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_patterns(schema: Mapping[str, Any]) -> None:
    for inner in _parts(schema):
        patterns = inner.get("patternProperties")
        names = list(patterns) if isinstance(patterns, dict) else []
        if isinstance(inner.get("pattern"), str):
            names.append(inner["pattern"])
        for pattern in names:
            try:
                _matcher(pattern)
            except PatternError as error:
                reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
                raise ValueError(
                    f"'json_schema' has the pattern {_short(pattern)}, which cannot be matched: {reason}"
                ) from error
        if names and "unevaluatedProperties" in inner:
            raise ValueError("'json_schema' has unevaluatedProperties beside patterns: write additionalProperties")


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping in a schema that may be a schema."""
    match schema:
        case dict():
            yield schema
            for name, value in schema.items():
                if name in _NAMED and isinstance(value, dict):
                    yield from _parts(list(value.values()))
                elif name not in _DATA:
                    yield from _parts(value)
        case list():
            for value in schema:
                yield from _parts(value)


# -- references


def _check_references(schema: Mapping[str, Any]) -> None:
    resource = Resource.from_contents(schema, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(schema.get("$id", ""), resource)
    resolver = registry.resolver(schema.get("$id", ""))
    targets: dict[str, Any] = {}
    for inner in _parts(schema):
        for name in ("$ref", "$dynamicRef"):
            reference = inner.get(name)
            if isinstance(reference, str) and reference not in targets:
                try:
                    targets[reference] = resolver.lookup(reference).contents
                except (Unresolvable, ValueError) as error:
                    raise ValueError(f"'json_schema' refers to '{reference}', which is not in it") from error
    walk = _InPlace(targets)
    for inner in _parts(schema):
        walk.check(inner, ())


class _InPlace:
    """This class follows the schemas that are applied to one value: one that leads back to itself would never end."""

    def __init__(self, targets: Mapping[str, Any]) -> None:
        self._targets = targets
        self._open: set[int] = set()
        self._done: set[int] = set()

    def check(self, schema: Any, way: tuple[str, ...]) -> None:
        """Follow every schema that `schema` applies to the same value. ValueError where one leads back to itself, or
        there are too many in each other."""
        if not isinstance(schema, dict) or id(schema) in self._done:
            return
        if id(schema) in self._open:
            raise ValueError(f"'json_schema': $ref leads back to itself: {' -> '.join(way[-4:]) or '#'}")
        if len(self._open) >= MAX_IN_PLACE:
            raise ValueError(f"'json_schema' applies more than {MAX_IN_PLACE} schemas to one value, one in another")
        self._open.add(id(schema))
        for step, inner in self._applied(schema):
            self.check(inner, (*way, step))
        self._open.discard(id(schema))
        self._done.add(id(schema))

    def _applied(self, schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name in ("$ref", "$dynamicRef"):
            if isinstance(schema.get(name), str):
                yield schema[name], self._targets.get(schema[name])
        for name in _IN_PLACE_LISTS:
            yield from ((name, inner) for inner in _items(schema.get(name)))
        for name in _IN_PLACE:
            yield name, schema.get(name)
        for name in _IN_PLACE_MAPPINGS:
            yield from ((name, inner) for inner in _values(schema.get(name)))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else []
