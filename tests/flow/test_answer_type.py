"""Classes as the form of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypedDict

import pytest
from pydantic import BaseModel, Field, RootModel

from sundog.engines.structured.json_schema import read_schema
from sundog.errors import FlowError
from sundog.flow.python.answer_type import output_of
from sundog.flow.python.builder import FlowBuilder
from sundog.ir.agents import Agent
from sundog.ir.schemas.output_schema import OutputSchema
from sundog.ir.schemas.shape import ListOf, Record, Scalar


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    size: int = Field(default=1, ge=0, le=9)


class Answer(BaseModel):
    """The fields that are taken from a text."""

    kind: Literal["question", "defect"]
    colour: Colour
    note: str | None = None
    parts: list[Part] = Field(default_factory=list, max_length=3)


@dataclass
class Sized:
    name: str
    sizes: list[float]


class Named(TypedDict):
    name: Annotated[str, Field(min_length=2)]
    inner: Sized


class Tree(BaseModel):
    name: str
    below: list[Tree]


class Nested(TypedDict):
    name: str
    below: list[Nested]


@dataclass
class Odd:
    name: str
    act: Callable[[int], int]


class Open(BaseModel):
    facts: dict[str, str]


class Vague(TypedDict):
    fact: Any


class Numbers(RootModel[list[int]]):
    pass


def test_a_model_becomes_a_schema_that_is_written_out() -> None:
    assert output_of(Answer) == {
        "json_schema": {
            "description": "The fields that are taken from a text.",
            "type": "object",
            "properties": {
                "kind": {"enum": ["question", "defect"], "type": "string"},
                "colour": {"enum": ["red", "blue"], "type": "string"},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "parts": {
                    "type": "array",
                    "maxItems": 3,
                    "items": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "size": {"maximum": 9, "minimum": 0, "type": "integer"},
                        },
                        "required": ["name", "size"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["kind", "colour", "note", "parts"],
            "additionalProperties": False,
        }
    }


@pytest.mark.parametrize("kind", [Answer, Sized, Named])
def test_our_engines_can_generate_it_and_templates_know_its_fields(kind: type) -> None:
    schema = OutputSchema.of(output_of(kind))
    read_schema(schema.text)
    assert isinstance(schema.shape, Record)


def test_fields_of_fields_are_known() -> None:
    shape = OutputSchema.of(output_of(Named)).shape
    assert shape == Record.of(name=Scalar(), inner=Record.of(name=Scalar(), sizes=ListOf(Scalar())))


def test_scalars_may_be_written_as_types() -> None:
    assert output_of({"a": int, "b": {"c": str}, "d": "float", "e": ["x", "y"]}) == {
        "a": "int",
        "b": {"c": "str"},
        "d": "float",
        "e": ["x", "y"],
    }
    assert output_of(None) is None


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Odd, "'Odd.act' has no JSON form: a field is str,"),
        (Tree, "'Tree.below[]' holds Tree inside itself; write the levels out"),
        (Nested, "Nested holds itself; write the levels out"),
        (Open, "'Open.facts' has no fixed fields"),
        (Vague, "'Vague.fact' may be anything"),
        (Numbers, "Numbers has no fields; give a pydantic model, a dataclass or a TypedDict"),
        (int, "int has no fields"),
        ({"parts": list[int]}, "list[int] stands in a mapping of fields"),
        ({"part": Part}, "stands in a mapping of fields"),
    ],
)
def test_what_cannot_be_taken_is_named(kind: Any, what: str) -> None:
    flow = FlowBuilder("f")
    with pytest.raises(FlowError) as caught:
        flow.llm("a", engine="e", prompt="x", output=kind)
    assert what in caught.value.what
    assert caught.value.what.startswith("the output of 'a': ")
    assert str(caught.value.where).startswith(__file__)


def test_a_flow_reads_the_fields() -> None:
    flow = FlowBuilder("f")
    engine = flow.engine("e", kind="null")
    row = flow.input("rows", "rows.csv")
    answer = flow.llm("a", engine=engine, prompt=f"{row.text}", output=Answer)
    flow.output(kind=answer.kind)
    flow.plan()
    flow.output(wrong=answer.knd)
    with pytest.raises(FlowError, match="has no field 'knd'"):
        flow.plan()


def tool_schema(parameters: Any) -> dict[str, Any]:
    """Return the schema that a model is told of a tool with these parameters."""
    flow = FlowBuilder("f")
    engine = flow.engine("e", kind="null")
    row = flow.input("rows", "rows.csv")
    call = {"call": json.loads, "args": {"s": f"{row.text}"}}
    name = flow.tool("find", description="Find it.", parameters=parameters, python=call)
    flow.output(text=flow.agent("a", engine=engine, prompt=f"{row.text}", tools=[name]).text)
    (agent,) = (node for node in flow.plan().nodes if isinstance(node, Agent))
    schema: dict[str, Any] = json.loads(agent.tools[0].parameters)
    return schema


def test_the_parameters_of_a_tool_take_types_and_classes() -> None:
    assert tool_schema({"text": str, "number": int}) == tool_schema({"text": "str", "number": "int"})
    assert tool_schema(Part)["properties"]["size"] == {"type": "integer", "minimum": 0, "maximum": 9}
    assert tool_schema(Part)["required"] == ["name", "size"]


def test_parameters_that_cannot_be_taken_are_named() -> None:
    with pytest.raises(FlowError) as caught:
        tool_schema({"parts": list[int]})
    assert caught.value.what.startswith("the parameters of 'find': list[int] stands in a mapping of fields")
