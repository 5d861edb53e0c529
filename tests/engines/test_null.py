from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.modelled.null import NullKind, NullOptions
from sundog.errors import BadResponse
from sundog.secrets import Secrets
from tests.engines.conformance import SCHEMA, EngineConformance, Started, ask_for, collect


class TestNullConformance(EngineConformance):
    kind = NullKind()

    @classmethod
    def options(cls) -> NullOptions:
        return NullOptions()

    def test_a_request_has_one_answer_in_every_process(self, started: Started) -> None:
        program = (
            "from sundog.engines.modelled.null import modelled_answer\n"
            "from tests.engines.conformance import SCHEMA, ask_for\n"
            "print(modelled_answer('null', ask_for('Judge.', json_schema=SCHEMA))[0])"
        )
        printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert printed.strip() == started.ask("Judge.", json_schema=SCHEMA).text

    def test_model_and_seed_change_the_answer(self, started: Started) -> None:
        assert started.ask("Judge.", seed=1).text != started.ask("Judge.", seed=2).text


def test_latency_is_slept(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def use() -> None:
        for options in (NullOptions(latency_s=0.25), NullOptions()):
            engine = NullKind().open(options, 0, Secrets({}))
            await engine.start()
            await collect(engine, ask_for("Say hello."))

    asyncio.run(use())
    assert slept == [0.25]


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(-50, 50), st.integers(0, 50)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    leaves: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.sampled_from(
            [{"type": "boolean"}, {"type": "null"}, {"type": "number"}, {"const": "ü"}, {"enum": [1, "a"]}]
        ),
        bounds.map(lambda pair: {"type": "integer", "minimum": pair[0], "maximum": pair[1]}),
        st.integers(-50, 50).map(lambda bound: {"type": "integer", "exclusiveMaximum": bound}),
        st.tuples(st.integers(0, 9), st.integers(9, 30)).map(
            lambda pair: {"type": "string", "minLength": pair[0], "maxLength": pair[1]}
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.dictionaries(st.text(min_size=1, max_size=3), inner, min_size=1, max_size=3).map(
                lambda fields: {"type": "object", "properties": fields, "required": list(fields)}
            ),
            st.tuples(inner, st.integers(0, 3)).map(lambda p: {"type": "array", "items": p[0], "minItems": p[1]}),
            st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
        ),
        max_leaves=6,
    )


@given(schemas(), st.integers(0, 5))
def test_every_schema_of_the_subset_is_satisfied(schema: dict[str, Any], seed: int) -> None:
    engine = NullKind().open(NullOptions(), 0, Secrets({}))

    async def use() -> str:
        await engine.start()
        return (await collect(engine, ask_for("x", seed=seed, json_schema=json.dumps(schema)))).text

    jsonschema.validate(json.loads(asyncio.run(use())), schema)


def test_a_schema_outside_the_subset_is_refused_and_not_ignored() -> None:
    async def use() -> None:
        engine = NullKind().open(NullOptions(), 0, Secrets({}))
        await engine.start()
        await collect(engine, ask_for("x", json_schema='{"type": "string", "pattern": "a+"}'))

    with pytest.raises(BadResponse, match="'pattern'"):
        asyncio.run(use())
