"""Equal calls of models: fields that say who asks do not count, and a salt keeps others out."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.serve.doors.models.sharing import sharing_key

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def key(**more: Any) -> bytes | None:
    return sharing_key("/chat/completions", {**ASK, **more}, {"model": "m"})


@pytest.mark.parametrize("field", ["user", "metadata", "session_id", "stream", "prompt_cache_key"])
def test_who_asks_and_how_it_is_sent_makes_no_other_call(field: str) -> None:
    assert key() is not None
    assert key(**{field: "another"}) == key()


@pytest.mark.parametrize("field", ["max_tokens", "seed", "tools", "cache_salt"])
def test_all_else_makes_another_call(field: str) -> None:
    assert key(**{field: "another"}) not in (None, key())


def test_calls_with_one_salt_are_shared() -> None:
    assert key(cache_salt="a") == key(cache_salt="a")
    assert key(cache_salt="a") != key(cache_salt="b")
