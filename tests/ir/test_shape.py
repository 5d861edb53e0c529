"""Shapes: which paths may be right."""

from __future__ import annotations

import pytest

from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape, find_path_mistake

ANSWER = Record.of(text=Scalar(), parts=ListOf(Record.of(title=Scalar())), free=Anything())


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        (ANSWER, ()),
        (ANSWER, ("text",)),
        (ANSWER, ("text", "upper")),
        (ANSWER, ("parts", "0", "title")),
        (ANSWER, ("free", "any", "thing")),
        (ANSWER, ("items",)),
        (Anything(), ("x",)),
    ],
)
def test_paths_that_may_be_right(shape: Shape, path: tuple[str, ...]) -> None:
    assert find_path_mistake(shape, path, "answer") is None


@pytest.mark.parametrize(
    ("path", "what", "hint"),
    [
        (("txt",), "'answer' has no field 'txt'", "did you mean 'text'?"),
        (("zzz",), "'answer' has no field 'zzz'", "known here: free, parts, text"),
        (("parts", "title"), "'answer.parts' is a list and has no field 'title'", "answer.parts[0].title"),
        (("parts", "0", "titel"), "'answer.parts[0]' has no field 'titel'", "did you mean 'title'?"),
    ],
)
def test_paths_that_are_wrong(path: tuple[str, ...], what: str, hint: str) -> None:
    mistake = find_path_mistake(ANSWER, path, "answer")
    assert mistake is not None
    assert mistake[0] == what
    assert hint in mistake[1]
