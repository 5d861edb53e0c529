"""Statements that a step did not write itself but a template gives, as a model's answer: read-only ones alone.

Owns the refusal of all else, and its words: they are the row's error, or what an agent reads. Never connects. Such a
statement runs where nothing can be written besides, so that a wrong judgement costs an error of the database's.
"""

from __future__ import annotations

from typing import Any

from sundog.errors import FlowError, OperatorError
from sundog.operators.sql.judge import Judgement, Reach, judge_anew

MAX_STATEMENT_CHARACTERS = 20_000
"""A longer statement is refused: reading it holds up other rows."""
READ_ONLY_BACKENDS = ("sqlite", "duckdb", "postgresql")
"""Here a statement can be kept from writing, whatever it says."""

MAX_RESULT_BYTES = 10_000_000
"""A larger result is refused: its step's author does not know what is read."""

_HINT = "let it be one select: a generated statement only reads"
_HINT_OF_WORDS = "let `generated` give the statement alone, without words around it"


def check_backend(backend: str) -> None:
    """Raise FlowError for a database whose statements cannot be kept from writing."""
    if backend not in READ_ONLY_BACKENDS:
        raise FlowError(
            f"a generated statement cannot run on {backend}, where nothing would keep it from writing",
            hint=f"databases for these: {', '.join(READ_ONLY_BACKENDS)}; or write the statement as `query`",
        )


def read_only(text: Any, backend: str) -> str:
    """Return `text` where it is one statement that only reads; OperatorError, with the judge's reason, for all else."""
    if not isinstance(text, str) or not text.strip():
        raise OperatorError(
            f"the generated statement is {'empty' if text in ('', None) or isinstance(text, str) else 'no text'}",
            hint="let `generated` give the text of one select",
        )
    if text.lstrip().startswith("```"):
        raise OperatorError(
            "the generated text is in a fence of Markdown, and so no statement",
            hint="ask the model for a field that holds the statement alone, as in output: {sql: str}",
        )
    if len(text) > MAX_STATEMENT_CHARACTERS:
        raise OperatorError(
            f"the generated statement has {len(text):,} characters, and {MAX_STATEMENT_CHARACTERS:,} are allowed",
            hint="ask for a shorter one",
        )
    found = judge_anew(text, backend)
    if found.num_statements != 1:
        raise OperatorError(f"the generated text holds {found.num_statements} statements, not one", hint=_HINT)
    if found.complaint is not None:
        raise OperatorError(f"the generated statement could not be parsed: {found.complaint}", hint=_HINT_OF_WORDS)
    if found.reach is Reach.WRITE:
        raise OperatorError(f"the generated statement is refused: {_reason(found)}", hint=_HINT)
    return text


def without_parameters(text: str) -> str:
    """Return `text` as SQLAlchemy reads it with no colon taken for a parameter's."""
    return text.replace(":", "\\:")


def _reason(found: Judgement) -> str:
    return found.reason.removesuffix(", so it counts as a write")
