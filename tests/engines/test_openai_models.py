"""The entry of a model in a list of models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sundog.engines.openai.models import Listed, read_models


@pytest.mark.parametrize("listed", ["m", "models/m", "m:latest"])
@pytest.mark.parametrize("asked", ["m", "models/m"])
def test_servers_name_one_model_in_several_ways(listed: str, asked: str) -> None:
    body = json.dumps({"data": [{"id": "other", "max_model_len": 1}, {"id": listed, "max_model_len": 7}]}).encode()
    assert read_models(body, asked) == Listed(max_context_tokens=7)


@pytest.mark.parametrize("value", [{"data": []}, {}, [], {"data": None}, {"data": [{"id": 5}, None, "m"]}])
def test_where_there_is_no_list_nothing_is_missing(value: Any) -> None:
    assert read_models(json.dumps(value).encode(), "m") == Listed()
