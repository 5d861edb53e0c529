"""`classify` and `extract`: common questions about a text, each an `llm` step that says less.

Owns the wording of the questions and the forms of the answers. What comes out is the block of an `llm` step, and is
planned, shown and run as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    Tag,
    field_validator,
)

from sundog.ir.schemas.output_schema import OutputSchema, object_schema
from sundog.ir.templates.template import Template

Label = StrictStr | StrictBool | StrictInt | StrictFloat
_MARKS = ("{{", "{%", "{#")


class ShortForm(BaseModel):
    """A question about a text."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    allows_files: ClassVar[frozenset[str]] = frozenset({"prompt", "system"})
    engine: Any
    #: The text that the question is about; it comes last, so that rows share what stands before it.
    text: Template
    #: The question in words of one's own.
    prompt: Template | None = None
    # The rest is read as keys of an llm step.
    system: Any = None
    max_tokens: Any = None
    temperature: Any = None
    seed: Any = None
    stop: Any = None
    samples: Any = None

    def llm(self) -> dict[str, Any]:
        """Return what stands below `llm` in the step that this is short for."""
        form, question, facts = self._asked()
        question = question if self.prompt is None else self.prompt.source
        rest = ("engine", "system", "max_tokens", "temperature", "seed", "stop", "samples")
        given = {key: getattr(self, key) for key in rest if key in self.model_fields_set}
        return {**given, "prompt": f"{question}\n\n{facts}\n\nText:\n{self.text.source}", "output": form}

    def _asked(self) -> tuple[Mapping[str, Any], str, str]:
        """Return the form of the answer, the question, and what every row is told with it."""
        raise NotImplementedError


class ClassifySpec(ShortForm):
    """The label of a text, or its labels."""

    #: The labels, or what each of them means.
    labels: Annotated[
        Annotated[dict[str, Template], Tag("dict")] | Annotated[tuple[Label, ...], Tag("list")],
        Discriminator(lambda value: "dict" if isinstance(value, dict) else "list"),
    ]
    #: Any number of labels, as a list, where one is the rule.
    many: bool = False

    @field_validator("labels", mode="before")
    @classmethod
    def _is_a_choice(cls, value: Any) -> Any:
        if not isinstance(value, Mapping | list | tuple) or len(value) < 2:
            raise ValueError("must list two or more labels, or give the meaning of each, as in {defect: it is broken}")
        for label in value:
            if not isinstance(label, str | bool | int | float):
                raise ValueError(f"must list text, numbers or truth values, and {json.dumps(label)} is none")
            if _has_marks(label):
                raise ValueError(f"must be the same for every row, and {label!r} is a template")
        if len({json.dumps(label) for label in value}) < len(value):
            raise ValueError("must differ, and one is there twice")
        return value

    def _asked(self) -> tuple[Mapping[str, Any], str, str]:
        labels = [*self.labels]
        listed = "\n".join(_line(label, self.labels) for label in labels)
        if not self.many:
            return {"label": labels}, "Which of these labels fits the text best?", listed
        several = {"type": "array", "items": {"enum": labels}, "maxItems": len(labels)}
        form = {"type": "object", "properties": {"labels": several}, "required": ["labels"]}
        question = "Which of these labels fit the text? List each that fits once, and none where none does."
        return {"json_schema": {**form, "additionalProperties": False}}, question, listed


class ExtractSpec(ShortForm):
    """Fields that a text tells."""

    #: The fields and their types, as of `output` in an llm step.
    fields: dict[str, Any]

    @field_validator("fields")
    @classmethod
    def _is_a_form(cls, value: dict[str, Any]) -> dict[str, Any]:
        if any(map(_has_marks, _texts(value))):
            raise ValueError("must be the same for every row, and a template stands in them")
        object_schema(value, "fields")
        OutputSchema.of(value)
        return value

    def _asked(self) -> tuple[Mapping[str, Any], str, str]:
        facts = json.dumps(self.fields.get("json_schema", self.fields), ensure_ascii=False)
        return self.fields, "Extract these fields from the text.", f"Fields: {facts}"


SHORT_FORMS: Mapping[str, type[ShortForm]] = {"classify": ClassifySpec, "extract": ExtractSpec}
"""By the operator's name in a flow."""


def _line(label: Label, labels: Any) -> str:
    text = label if isinstance(label, str) else json.dumps(label)
    return f"- {text}: {labels[label].source}" if isinstance(labels, dict) else f"- {text}"


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield from (key, *_texts(inner))
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def _has_marks(value: Any) -> bool:
    return isinstance(value, str) and any(mark in value for mark in _MARKS)
