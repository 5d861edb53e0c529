"""Plans of served flows follow what their rows show."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from sundog.config import Config
from sundog.cost.history import History
from sundog.errors import FlowError, StoreError
from sundog.ir.physical import FilterExec
from sundog.live import host as live_host
from sundog.live.figures import FlowFigures
from sundog.live.flow_request import FlowRequest
from sundog.live.host import open_live_host
from sundog.measured.node_history import extend_history, read_history
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


def test_what_one_flow_has_shown_is_kept_though_that_of_another_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, names = extend_history, ["one", "two", "three"]

    def failing(state_dir: Path, flow: str, seen: History) -> None:
        if flow == "one":
            raise StoreError("the disk is full")
        whole(state_dir, flow, seen)

    async def test() -> None:
        async with open_live_host(tmp_path, Secrets({})) as host:
            for name in names:
                host.figures[name] = FlowFigures()
                host.figures[name].observations.judged("keep", True)
            with monkeypatch.context() as full:
                full.setattr(live_host, "extend_history", failing)
                kept, (failure,) = await host.keep_history()
                assert (kept, str(failure)) == (names[1:], "the disk is full")
                host.figures["one"].observations.judged("keep", False)
            assert await host.keep_history() == (["one"], [])

    asyncio.run(test())
    judged = [read_history(tmp_path, name)["keep", ""] for name in names]
    assert [(record.num_held, record.num_judged) for record in judged] == [(1, 2), (1, 1), (1, 1)]
