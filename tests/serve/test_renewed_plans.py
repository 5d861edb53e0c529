"""Plans of served flows follow what their rows show."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from sundog.config import Config
from sundog.errors import FlowError
from sundog.ir.physical import FilterExec
from sundog.live.flow_request import FlowRequest
from sundog.measured.node_history import read_history
from sundog.secrets import Secrets
from sundog.serve import serving as serving_module
from sundog.serve.serving import Serving, open_serving

FLOW = """
name: sieves
inputs:
  rows: {path: rows.jsonl}
nodes:
  wide: {filter: "{{ row.kind != 'rare' }}"}
  narrow: {filter: "{{ row.number == 3 }}"}
  wait:
    python: {call: "wait:until_free", args: {}}
outputs: {number: "{{ row.number }}", wait: "{{ wait }}"}
"""
FREE = threading.Event()
WAIT = "from tests.serve.test_renewed_plans import FREE\ndef until_free():\n    FREE.wait(20)\n    return 1\n"
ROWS = [{"number": number, "kind": "common"} for number in range(20)]


def filters(serving: Serving) -> list[str]:
    """The filters of the plan by which the next row runs, in their order."""
    return [node.name for node in serving.loaded["sieves"].served.plan.nodes if isinstance(node, FilterExec)]


def test_the_order_of_filters_follows_the_rows(tmp_path: Path) -> None:
    (tmp_path / "wait.py").write_text(WAIT)
    (tmp_path / "flow.yaml").write_text(FLOW)
    config = Config(tmp_path / "state", Secrets({}))

    async def test() -> None:
        async with open_serving(config, [tmp_path / "flow.yaml"]) as serving:
            flow = serving.host.flows["sieves"]
            assert filters(serving) == ["wide", "narrow"]
            plan = serving.loaded["sieves"].served.plan
            await serving.renew_plans()
            assert serving.loaded["sieves"].served.plan is plan, "nothing was shown, and nothing is planned"
            request = await flow.accept(ROWS)
            assert isinstance(request, FlowRequest)
            async for _ in request.told():
                if len(request.ends) == len(ROWS) - 1:
                    break
            await serving.renew_plans()
            assert filters(serving) == ["narrow", "wide"]
            assert read_history(config.state_dir, "sieves")["wide", ""].num_judged == len(ROWS), "kill -9 loses none"
            later = await flow.accept([{"number": 3, "kind": "rare"}])
            assert isinstance(later, FlowRequest)
            await later.ended()
            assert later.ends[0].state == "dropped"
            FREE.set()
            await request.ended()
            assert request.ends[3].state == "done", "a row ends with the plan that it began with"

    asyncio.run(test())


def test_a_flow_that_cannot_be_planned_is_served_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "wait.py").write_text("def until_free():\n    return 1\n")
    (tmp_path / "flow.yaml").write_text(FLOW)

    def refused(*_: object) -> None:
        raise FlowError("no plan")

    monkeypatch.setattr(serving_module, "replanned", refused)

    async def test() -> None:
        async with open_serving(Config(tmp_path / "state", Secrets({})), [tmp_path / "flow.yaml"]) as serving:
            for _ in range(2):
                request = await serving.host.flows["sieves"].accept(ROWS)
                assert isinstance(request, FlowRequest)
                await request.ended()
                assert request.ends[3].state == "done"
                with caplog.at_level(logging.ERROR):
                    await serving.renew_plans()
                assert "the plan of the flow 'sieves' is not renewed: no plan" in caplog.text

    asyncio.run(test())
