"""Limits of dollars and tokens at the door of models: of a key, its tenant, a program and a request."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sundog.ir.logical import EngineBlock
from sundog.ledger.charges import Charge
from sundog.ledger.ledger import SpendingLimits, SpendingScope
from sundog.store.store import Store
from tests.e2e.test_limits_killed import PaidServer
from tests.serve.asking import Heard, ask
from tests.serve.keyed import Clock, added, kept_keys
from tests.serve.running import Running, running

PATH = "/v1/chat/completions"
NUM_PROMPT, NUM_OUTPUT = 3, 7
"""The tokens of a call here: its prompt, and as many of the answer as the engine gives."""
PRICE = {"input_usd_per_mtok": 1_000.0, "output_usd_per_mtok": 10_000.0}
CALL_USD = 0.073
PRICED = EngineBlock("priced", "null", {"model": "m", "price": PRICE, "output_tokens": NUM_OUTPUT})
FREE = EngineBlock("free", "null", {"model": "f", "output_tokens": NUM_OUTPUT})
USED = Charge(73_000_000, NUM_PROMPT + NUM_OUTPUT)


def key_of(state_dir: Path, name: str, tenant: str = "acme", **terms: Any) -> dict[str, str]:
    return {"x-api-key": added(state_dir, name, tenant, **terms)}


def body(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a request whose prompt has NUM_PROMPT tokens, unlike that of another number."""
    messages = [{"role": "user", "content": f"{number:08}"}]
    return {"model": "m", "messages": messages, "max_tokens": NUM_OUTPUT, **fields}


def written(state_dir: Path, *, is_idle: bool = True) -> dict[str, Charge]:
    """Return what is written of each account; where the server `is_idle`, nothing is held by calls."""
    store = Store(state_dir)
    try:
        found = store.select("select * from spent", ())
    finally:
        store.close()
    assert not is_idle or all((nano_usd, num_tokens) == (0, 0) for _, _, _, nano_usd, num_tokens in found)
    return {scope: Charge(nano_usd, num_tokens) for scope, nano_usd, num_tokens, _, _ in found}


def refused(heard: Heard, code: str) -> str:
    """Return what an answer says that a limit gave."""
    assert heard.status == 429, heard.body
    error = heard.body["error"]
    assert (error["type"], error["code"]) == ("insufficient_quota", code)
    assert heard.headers["x-should-retry"] == "false"
    return str(error["message"])


def test_a_key_spends_what_it_may_and_no_more_over_restarts(tmp_path: Path) -> None:
    key = key_of(tmp_path, "one", max_usd=3.5 * CALL_USD)
    for number in range(2):
        with running(tmp_path, engines=[PRICED, FREE]) as server:
            assert ask(server.address, "POST", PATH, body(number), key).status == 200
    with running(tmp_path, engines=[PRICED, FREE]) as server:
        assert ask(server.address, "POST", PATH, body(2), key).status == 200
        what = refused(ask(server.address, "POST", PATH, body(3), key), "insufficient_quota")
        assert "max_usd of the key 'key-" in what
        assert "is $0.2555: spent $0.219, reserved $0.00, and the call may take $0.073" in what
        assert ask(server.address, "POST", PATH, body(4, model="f"), key).status == 200, "it costs nothing"
        assert ask(server.address, "POST", PATH, body(5, max_tokens=1), key).status == 200, "this one fits"
    (spent,) = (charge for scope, charge in written(tmp_path).items() if scope.startswith("key:"))
    assert spent.nano_usd <= 3.5 * CALL_USD * 10**9
    with kept_keys(tmp_path) as keys:
        (record,) = keys.all()
        assert keys.spent(SpendingScope("key", record.key_id)) == spent


@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_every_form_is_paid(tmp_path: Path, path: str) -> None:
    key = key_of(tmp_path, "one", max_tokens=100)
    text = "x" * 8
    asked: dict[str, Any] = {
        PATH: body(),
        "/v1/completions": {"prompt": text, "max_tokens": 7},
        "/v1/responses": {"input": text, "max_output_tokens": 7},
        "/v1/messages": {"messages": [{"role": "user", "content": text}], "max_tokens": 7},
    }[path]
    with running(tmp_path, engines=[PRICED]) as server:
        for stream in (False, True):
            sent = {**asked, "model": "m", "stream": stream}
            assert ask(server.address, "POST", path, sent, key).status == 200
        longer = dict.fromkeys(asked.keys() & {"max_tokens", "max_output_tokens"}, 99)
        over = ask(server.address, "POST", path, {**asked, **longer, "model": "m"}, key)
        assert over.status == 429
        assert "max_tokens of the key" in over.body["error"]["message"]
    (spent,) = written(tmp_path).values()
    assert 2 * NUM_OUTPUT < spent.num_tokens < 40


def test_calls_at_once_pass_no_limit(tmp_path: Path) -> None:
    limit = 10
    key = key_of(tmp_path, "many", max_tokens=limit * USED.num_tokens)
    slow = EngineBlock("slow", "null", {"model": "m", "latency_s": 0.02, "output_tokens": NUM_OUTPUT})
    with running(tmp_path, engines=[slow]) as server, ThreadPoolExecutor(20) as threads:
        statuses = Counter(
            threads.map(lambda number: ask(server.address, "POST", PATH, body(number), key).status, range(100))
        )
        assert statuses == {200: limit, 429: 90}
    assert list(written(tmp_path).values()) == [Charge(0, limit * USED.num_tokens)]


def test_an_answer_in_common_is_paid_once(tmp_path: Path) -> None:
    key, other = key_of(tmp_path, "one", max_tokens=10), key_of(tmp_path, "two", max_tokens=0)
    with running(tmp_path, engines=[PRICED]) as server:
        assert ask(server.address, "POST", PATH, body(temperature=0), other).status == 429
        for one in (key, key, other):
            assert ask(server.address, "POST", PATH, body(temperature=0), one).status == 200
        refused(ask(server.address, "POST", PATH, body(temperature=1), key), "insufficient_quota")
    assert sum(charge.num_tokens for charge in written(tmp_path).values()) == USED.num_tokens


def test_who_may_not_pay_does_not_fail_others_that_joined(tmp_path: Path) -> None:
    """Equal calls at once: one key has nothing left, and leads now and then."""
    keys = [key_of(tmp_path, "one", max_tokens=0), key_of(tmp_path, "two", max_tokens=1000)]
    slow = EngineBlock("slow", "null", {"model": "m", "latency_s": 0.05, "output_tokens": NUM_OUTPUT})
    with running(tmp_path, engines=[slow]) as server, ThreadPoolExecutor(8) as threads:
        for number in range(4):
            sends = partial(ask, server.address, "POST", PATH, body(number, temperature=0))
            assert [heard.status for heard in threads.map(sends, keys * 4)][1::2] == [200] * 4
    assert sum(charge.num_tokens for charge in written(tmp_path).values()) == 4 * USED.num_tokens


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("others", [{"max_tokens": 1000}, {}])
def test_nobody_waits_for_the_money_of_another_key(tmp_path: Path, others: dict[str, Any], is_streamed: bool) -> None:
    """Equal calls: those of one key wait until another call of its own has ended, and those of the other do not."""
    poor, rich = key_of(tmp_path, "one", max_tokens=15), key_of(tmp_path, "two", "other", **others)
    slow = EngineBlock("slow", "null", {"model": "s", "latency_s": 60.0, "output_tokens": NUM_OUTPUT})
    with running(tmp_path, engines=[PRICED, slow]) as server, ThreadPoolExecutor(8) as threads:
        models = server.serving.host.models
        leaving = Leaving(server.address, body(model="s"), poor)
        wait_until(lambda: models.num_in_flight == 1)
        shared = partial(ask, server.address, "POST", PATH, body(1, temperature=0, stream=is_streamed))
        waiting = [threads.submit(shared, poor) for _ in range(3)]
        wait_until(lambda: models.num_in_flight == 2)
        time.sleep(0.1)
        assert [one.status for one in threads.map(shared, [rich] * 3)] == [200] * 3
        assert not any(one.done() for one in waiting)
        leaving.close()
        assert [one.result().status for one in waiting] == [200] * 3
        assert server.serving.host.engines.engines["priced/0"].stats().num_requests == 1
        wait_until(lambda: models.num_in_flight == 0)
    (spent, *_) = [charge for scope, charge in written(tmp_path).items() if scope.startswith("key:")]
    assert spent.num_tokens == USED.num_tokens


def test_equal_calls_of_one_key_that_waited_are_made_once(tmp_path: Path) -> None:
    key = key_of(tmp_path, "one", max_tokens=25)
    slow = EngineBlock("slow", "null", {"model": "s", "latency_s": 0.3, "output_tokens": NUM_OUTPUT})
    with running(tmp_path, engines=[PRICED, slow]) as server, ThreadPoolExecutor(8) as threads:
        before = threads.submit(ask, server.address, "POST", PATH, body(model="s", max_tokens=20), key)
        wait_until(lambda: server.serving.host.models.num_in_flight == 1)
        sends = (body(1, temperature=0, stream=bool(number % 2)) for number in range(6))
        heard = threads.map(lambda sent: ask(server.address, "POST", PATH, sent, key), sends)
        assert [one.status for one in heard] == [200] * 6
        assert before.result().status == 200
        assert server.serving.host.engines.engines["priced/0"].stats().num_requests == 1
    assert [charge.num_tokens for charge in written(tmp_path).values()] == [2 * USED.num_tokens]


class Leaving:
    """A client that has asked, and may leave."""

    def __init__(self, address: str, asked: dict[str, Any], headers: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"))
        self._connection.request("POST", PATH, json.dumps(asked).encode(), headers)

    def close(self) -> None:
        self._connection.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        time.sleep(0.005)
    raise AssertionError("it never came")


def test_a_tenant_is_limited_with_all_its_keys_and_a_change_reaches_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    keys = [key_of(tmp_path, name, "team") for name in ("one", "two")]
    with kept_keys(tmp_path) as kept:
        kept.limit_tenant("team", SpendingLimits(max_tokens=2 * USED.num_tokens))
    with running(tmp_path, engines=[PRICED]) as server:
        for number, key in enumerate(keys):
            assert ask(server.address, "POST", PATH, body(number), key).status == 200
        what = refused(ask(server.address, "POST", PATH, body(2), keys[0]), "insufficient_quota")
        assert "max_tokens of the tenant 'team' is 20: spent 20" in what
        with kept_keys(tmp_path) as kept:
            kept.limit_tenant("team", SpendingLimits(max_tokens=3 * USED.num_tokens))
        on_loop(server, server.serving.host.accounts.look_for_changes)
        scope = SpendingScope("tenant", "team")
        assert server.serving.host.accounts.spending.limits(scope).max_tokens == 3 * USED.num_tokens
        clock.ahead_s += 1.0
        assert ask(server.address, "POST", PATH, body(3), keys[1]).status == 200
        refused(ask(server.address, "POST", PATH, body(4), keys[0]), "insufficient_quota")
        with kept_keys(tmp_path) as kept:
            kept.limit_tenant("team", SpendingLimits())
        clock.ahead_s += 1.0
        assert ask(server.address, "POST", PATH, body(4), keys[0]).status == 200
    assert written(tmp_path) == {"tenant:team": Charge(4 * USED.nano_usd, 4 * USED.num_tokens)}


def test_a_program_keeps_its_budget_until_it_ends(tmp_path: Path) -> None:
    one, child = {"x-session-id": "p"}, {"x-session-id": "c", "x-parent-session-id": "p"}
    budget = {"x-sundog-budget": str(3.5 * CALL_USD)}
    with running(tmp_path, engines=[PRICED]) as server:
        assert ask(server.address, "POST", PATH, body(0), one | budget).status == 200
        assert ask(server.address, "POST", PATH, body(1), child).status == 200
        assert ask(server.address, "POST", PATH, body(2), {"x-session-id": "another"}).status == 200
    with running(tmp_path, engines=[PRICED]) as server:
        assert ask(server.address, "POST", "/s/p" + PATH, body(3)).status == 200
        what = refused(ask(server.address, "POST", PATH, body(4), one), "budget_exceeded")
        assert "max_usd of the program '/p' is $0.2555: spent $0.219" in what
        refused(ask(server.address, "POST", PATH, body(4), child), "budget_exceeded")
        more = {"x-sundog-budget": str(4.5 * CALL_USD)}
        assert ask(server.address, "POST", PATH, body(5), one | more).status == 200
        refused(ask(server.address, "POST", PATH, body(6), one), "budget_exceeded")
        assert ask(server.address, "POST", "/programs/release", {"program_id": "p"}).status == 200
        assert ask(server.address, "POST", PATH, body(7), one).status == 200, "a new one, without a budget"
    assert written(tmp_path) == {}


def wait_until_ended(server: Running) -> None:
    """Return when no program has an account: they end when the answers of their last requests were sent."""
    wait_until(lambda: not server.serving.host.accounts._paying)


def test_the_last_request_of_a_program_is_bound_by_its_budget(tmp_path: Path) -> None:
    one, final = {"x-session-id": "p"}, {"x-session-id": "p", "x-dynamo-session-final": "true"}
    child = {"x-session-id": "c", "x-parent-session-id": "p", "x-dynamo-session-final": "true"}
    budget = {"x-sundog-budget": str(2.5 * CALL_USD)}
    with running(tmp_path, engines=[PRICED]) as server:
        assert ask(server.address, "POST", PATH, body(0), one | budget).status == 200
        assert ask(server.address, "POST", PATH, body(1), child).status == 200, "the end of a child is not its parent's"
        for number in (2, 3):
            # What was refused has ended nothing: it may be sent again, and finds no more room.
            refused(ask(server.address, "POST", PATH, body(number), final), "budget_exceeded")
        assert ask(server.address, "POST", PATH, body(4, max_tokens=1), final).status == 200, "this one fits"
        wait_until_ended(server)
        assert ask(server.address, "POST", PATH, body(5), one).status == 200, "a new one, without a budget"
    assert written(tmp_path) == {}


def test_a_program_whose_first_request_is_its_last(tmp_path: Path) -> None:
    final = {"x-session-id": "p", "x-dynamo-session-final": "true", "x-sundog-budget": str(0.5 * CALL_USD)}
    with running(tmp_path, engines=[PRICED]) as server:
        refused(ask(server.address, "POST", PATH, body(0), final), "budget_exceeded")
        assert ask(server.address, "POST", PATH, body(1), final | {"x-sundog-budget": "1"}).status == 200
        wait_until_ended(server)
    assert written(tmp_path) == {}


def test_a_budget_needs_a_program(tmp_path: Path) -> None:
    with running(tmp_path, engines=[PRICED]) as server:
        heard = ask(server.address, "POST", PATH, body(), {"x-sundog-budget": "1.5"})
        assert (heard.status, heard.body["error"]["param"]) == (400, "x-sundog-budget")
        assert "x-session-id" in heard.body["error"]["message"]
        heard = ask(server.address, "POST", PATH, body(), {"x-sundog-budget": "much", "x-session-id": "p"})
        assert heard.status == 400


def test_a_request_says_what_it_may_cost(tmp_path: Path) -> None:
    with running(tmp_path, engines=[PRICED, FREE]) as server:
        for name, value in (("x-sundog-max-usd", CALL_USD), ("x-sundog-max-tokens", USED.num_tokens)):
            assert ask(server.address, "POST", PATH, body(), {name: str(value)}).status == 200
        less = ask(server.address, "POST", PATH, body(), {"x-sundog-max-usd": str(CALL_USD - 0.001)})
        assert "max_usd of the request 'chatcmpl-" in refused(less, "budget_exceeded")
        less = ask(server.address, "POST", PATH, body(), {"x-sundog-max-tokens": str(USED.num_tokens - 1)})
        assert "max_tokens of the request" in refused(less, "budget_exceeded")
        unbounded = {"model": "m", "messages": body()["messages"]}
        heard = ask(server.address, "POST", PATH, unbounded, {"x-sundog-max-tokens": "999"})
        assert (heard.status, heard.body["error"]["code"]) == (400, "max_tokens_needed")
        heard = ask(server.address, "POST", PATH, {**unbounded, "model": "f"}, {"x-sundog-max-usd": "0"})
        assert heard.status == 200, "it costs nothing, however long it is"
        accounts = server.serving.host.accounts
    assert not accounts._paying, "requests that have ended have no account"
    assert written(tmp_path) == {}


def test_without_limits_nothing_is_counted(tmp_path: Path) -> None:
    key = key_of(tmp_path, "one")
    with running(tmp_path, engines=[PRICED]) as server:
        assert ask(server.address, "POST", PATH, body(), key | {"x-session-id": "p"}).status == 200
    assert written(tmp_path) == {}


def test_one_process_counts_what_is_spent(tmp_path: Path) -> None:
    key, free = key_of(tmp_path, "one", max_tokens=100), key_of(tmp_path, "two")
    with running(tmp_path, engines=[PRICED]) as first, running(tmp_path, engines=[PRICED]) as second:
        assert ask(first.address, "POST", PATH, body(0), key).status == 200
        heard = ask(second.address, "POST", PATH, body(1), key)
        assert (heard.status, heard.body["error"]["code"]) == (503, "accounts_held")
        assert ask(second.address, "POST", PATH, body(1), free).status == 200
    with running(tmp_path, engines=[PRICED]) as third:
        assert ask(third.address, "POST", PATH, body(1), key).status == 200
    assert list(written(tmp_path).values()) == [Charge(2 * USED.nano_usd, 2 * USED.num_tokens)]


def test_limits_that_another_process_counts_end_no_work_of_this_one(tmp_path: Path) -> None:
    key, free = key_of(tmp_path, "one", max_tokens=100), key_of(tmp_path, "two", "other")
    with running(tmp_path, engines=[PRICED]) as second:
        with running(tmp_path, engines=[PRICED]) as first:
            assert ask(first.address, "POST", PATH, body(0), key).status == 200
            assert ask(second.address, "POST", PATH, body(1), free).status == 200
            with kept_keys(tmp_path) as kept:
                kept.limit_tenant("other", SpendingLimits(max_tokens=50))
            on_loop(second, second.serving.host.accounts.look_for_changes)
        on_loop(second, second.serving.host.accounts.look_for_changes)
        scope = SpendingScope("tenant", "other")
        assert second.serving.host.accounts.spending.limits(scope).max_tokens == 50, "it counts once it may"


def on_loop(server: Running, act: Any) -> None:
    async def acting() -> None:
        act()

    asyncio.run_coroutine_threadsafe(acting(), server.loop).result()


@pytest.mark.parametrize("asks", [False, True])
def test_a_stream_of_a_server_is_charged_what_it_tells(tmp_path: Path, asks: bool) -> None:
    key = key_of(tmp_path, "one", max_tokens=10_000)
    with PaidServer() as behind:
        block = EngineBlock("front", "openai", {"model": "m", "base_url": f"{behind.origin}/v1"})
        with running(tmp_path, engines=[block]) as server:
            asked = body(stream=True) | ({"stream_options": {"include_usage": True}} if asks else {})
            heard = ask(server.address, "POST", PATH, asked, key)
            assert heard.body.count("data: {") == 1 + asks
            assert ('"usage"' in heard.body) == asks
            assert heard.body.endswith("data: [DONE]\n\n")
        # The stream ends before the call is counted.
        figures = server.serving.host.calls["engine:front", "", ""]
    assert behind.num_tokens == figures.num_prompt_tokens + figures.num_output_tokens
    assert [charge.num_tokens for charge in written(tmp_path).values()] == [behind.num_tokens]
