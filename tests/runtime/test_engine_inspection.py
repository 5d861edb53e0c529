"""The findings about engines before a run: secrets that are not set, servers that are there, and what these tell."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.engines.openai.engine import OpenAIEngine
from sundog.explanation.explanation import Explanation
from sundog.ir.logical import EngineBlock
from sundog.present.document import PlanDocument
from sundog.runtime.preflight.engine_inspection import EngineLook, look_at_engine
from sundog.secrets import Secrets
from sundog.session.session import plan_session
from tests.engines.server import MAX_CONTEXT_TOKENS, MODEL, Exchange, running_server


async def refuse(exchange: Exchange) -> None:
    await exchange.send(404, "{}")


def look(kind: str, **options: Any) -> EngineLook:
    return asyncio.run(look_at_engine(EngineBlock("e", kind, options), Secrets({})))


def test_a_variable_that_is_not_set_is_found_and_the_server_is_left_alone() -> None:
    with running_server() as server:
        found = look("openai", base_url=server.base_url, model=MODEL, api_key="${env:NO_SUCH_KEY}")
        assert [one.what for one in found.findings] == ["the environment variable NO_SUCH_KEY is not set"]
        assert found.findings[0].is_fatal
        assert not server.exchanges


def test_a_server_tells_its_context() -> None:
    with running_server() as server:
        found = look("openai", base_url=server.base_url, model=MODEL)
        assert found.outline is not None
        assert (found.findings, found.outline.max_context_tokens) == ((), MAX_CONTEXT_TOKENS)
        written = look("openai", base_url=server.base_url, model=MODEL, max_context_tokens=99)
        assert written.outline is not None
        assert written.outline.max_context_tokens == 99


def test_a_server_that_is_not_there_is_a_warning() -> None:
    (found,) = look("openai", base_url="http://127.0.0.1:9/v1", model=MODEL).findings
    assert "no server answers" in found.what
    assert not found.is_fatal, "it may be there when the run begins"


def test_a_model_that_the_server_does_not_list_is_a_warning() -> None:
    with running_server() as server:
        (found,) = look("openai", base_url=server.base_url, model="servd").findings
        assert f"{server.base_url} does not name 'servd'" in found.what
        assert (found.hint, found.is_fatal) == (f"did you mean '{MODEL}'?", False)
        server.script.append(refuse)
        assert look("openai", base_url=server.base_url, model="servd").findings == (), "it has no list"


def test_every_address_of_an_engine_is_looked_at() -> None:
    with running_server() as server:
        urls = [server.base_url, "http://127.0.0.1:9/v1"]
        found = look("openai", base_url=urls, model=MODEL)
        assert [one.what.partition(":")[0] for one in found.findings] == ["no server answers at http"]
        assert found.outline is not None
        assert found.outline.max_context_tokens == MAX_CONTEXT_TOKENS


def test_an_engine_that_fails_as_nobody_foresaw_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: OpenAIEngine) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(OpenAIEngine, "start", start)
    (found,) = look("openai", base_url="http://127.0.0.1:9/v1", model=MODEL).findings
    assert found.what == "not checked: KeyError: 'bug'"
    assert not found.is_fatal


def test_engines_of_ones_own_are_not_started() -> None:
    assert look("null", load_s=3600.0).findings == ()
    assert look("vllm", model="m").findings == ()


def test_rows_too_long_for_a_server_are_counted(tmp_path: Path) -> None:
    with running_server() as server:
        flow = sd.Flow("served")
        flow.engine("served", kind="openai", base_url=server.base_url, model=MODEL)
        flow.input("rows", rows=[{"text": "word " * number} for number in (10, 5000, 20)])
        flow.llm("say", engine="served", prompt="{{ row.text }}")
        flow.output(text="{{ say.text }}")
        document: PlanDocument = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))).document()
    (warning,) = document.warnings
    assert warning.place == "step 'say'"
    assert warning.what.startswith(
        "1 of 3 rows cannot run: the prompt is longer than the context of 400 tokens (row 1: "
    )
