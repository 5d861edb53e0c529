"""A call holds what it may cost while its attempt runs, and is charged what it has cost, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sundog.engines.base import Capabilities, Message, Usage
from sundog.engines.message_parts import TextPart
from sundog.errors import BadResponse, CallError, EngineOverloaded, EngineTimeout, LimitReached, RunError, RunStopped
from sundog.execution.calls.call_key import CallIdentity, RunScope
from sundog.execution.calls.charging import Charging, most_of_call, most_prompt_tokens
from sundog.execution.calls.in_flight import InFlight, LeaderLeft
from sundog.execution.spending import SpendingAccounts
from sundog.host.attempt import Success
from sundog.ir.row_ids import RowRef
from sundog.ledger.charges import NO_CHARGE, Charge, Tariff
from sundog.ledger.ledger import SpendingLimits, SpendingScope
from sundog.operators.base import BoundCall
from sundog.sched.events import Submit
from sundog.store.store import Store
from tests.engines.plain_engine import PROMPT_TOKENS, PlainEngine

RUN = SpendingScope("run", "r")
PRICED = Tariff(1000, 1000, 4000)
CALL = BoundCall({"engine": {}}, (Message("user", "hello"),), 100)
MOST = PRICED.most(PROMPT_TOKENS, 100)
IDENTITY = CallIdentity(RowRef("", (0,)), "ask", 0)


class Exact(PlainEngine):
    def capabilities(self) -> Capabilities:
        return Capabilities(None, None, False, False, False, counts_exactly=True)


class Stage:
    """An account of 1,000 tokens, and attempts that do what the test says."""

    def __init__(self, store: Store) -> None:
        self.accounts = SpendingAccounts(store, now_s=lambda: self.now_s)
        self.now_s = 0.0
        self.accounts.open(RUN, SpendingLimits(max_tokens=1000, deadline_s=50.0))
        driver: Any = SimpleNamespace(is_stopping=False)
        self.driver = driver
        scope = RunScope("r", is_fresh=False, repeats_unknown_effects=False, payers=(RUN,))
        engines: Any = {"local/0": Exact()}
        self.charging = Charging(scope, self.accounts, driver, {"engine:local": PRICED}, engines, {})

    async def attempt(
        self,
        act: Callable[[], Success[Any]],
        *,
        pool: str = "engine:local",
        calls: Sequence[BoundCall] = (CALL,),
    ) -> Success[Any]:
        async def attempt(submit: Submit) -> Success[Any]:
            self.held = self.accounts.reserved(RUN)
            return act()

        node: Any = SimpleNamespace(pool=pool)
        submit: Any = SimpleNamespace(replica_id="local/0")
        return await self.charging.around(attempt, node, IDENTITY, lambda: calls)(submit)


def on_stage(folder: Path, main: Callable[[Stage], Awaitable[None]]) -> None:
    async def whole() -> None:
        store = Store(folder)
        store.open_writer()
        try:
            stage = Stage(store)
            await main(stage)
            assert stage.accounts.reserved(RUN) == NO_CHARGE, "nothing is held when all has ended"
            stage.accounts.flush()
        finally:
            store.close()

    asyncio.run(whole())


def raising(error: BaseException) -> Callable[[], Success[Any]]:
    def act() -> Success[Any]:
        raise error

    return act


def paid(error: CallError) -> CallError:
    error.usage = Usage(10, 7)
    return error


def test_the_most_is_held_and_what_it_cost_is_charged(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        assert (await stage.attempt(lambda: Success("said", Usage(10, 20, 5)))).result == "said"
        assert stage.held == MOST == Charge(10 + 400, 110)
        assert stage.accounts.spent(RUN) == Charge(10 + 80, 30)

    on_stage(tmp_path, main)


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (EngineOverloaded("429", retryable=True), NO_CHARGE),
        (EngineTimeout("late"), MOST),
        (BadResponse("unreadable"), MOST),
        (paid(BadResponse("no JSON")), Charge(10 + 28, 17)),
        (asyncio.CancelledError(), MOST),
        (RunError("the store"), MOST),
    ],
)
def test_a_failed_call_counts_whole_unless_it_is_known_what_it_cost(
    error: BaseException, spent: Charge, tmp_path: Path
) -> None:
    async def main(stage: Stage) -> None:
        with pytest.raises(type(error)):
            await stage.attempt(raising(error))
        assert stage.accounts.spent(RUN) == spent

    on_stage(tmp_path, main)


def test_without_figures_a_call_counts_whole(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        await stage.attempt(lambda: Success("said"))
        assert stage.accounts.spent(RUN) == MOST
        # Two calls in one request of which one has no answer.
        await stage.attempt(lambda: Success(["said", None], Usage(10, 1), 2, 1), calls=(CALL, CALL))
        assert stage.accounts.spent(RUN) == MOST + MOST + MOST

    on_stage(tmp_path, main)


def test_a_tool_costs_nothing_and_has_the_deadline_all_the_same(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        await stage.attempt(lambda: Success("found", Usage(5, 5)), pool="http://there")
        assert stage.held == stage.accounts.spent(RUN) == NO_CHARGE
        stage.now_s = 50.0
        with pytest.raises(LimitReached, match="the deadline of the run 'r' has passed"):
            await stage.attempt(lambda: Success("found"), pool="http://there")

    on_stage(tmp_path, main)


def test_a_call_that_does_not_fit_is_not_started(tmp_path: Path) -> None:
    started: list[int] = []

    def start() -> Success[Any]:
        started.append(1)
        return Success("said")

    async def main(stage: Stage) -> None:
        large = BoundCall(CALL.payload, CALL.prompt, 5000)
        with pytest.raises(LimitReached) as reached:
            await stage.attempt(start, calls=(large,))
        assert reached.value.refusal.limit == "max_tokens"
        assert "--max-tokens" in str(reached.value)
        assert not started

    on_stage(tmp_path, main)


def test_a_call_that_waited_while_the_run_began_to_stop_is_not_started(tmp_path: Path) -> None:
    async def main(stage: Stage) -> None:
        stage.driver.is_stopping = True
        with pytest.raises(RunStopped, match="stopping"):
            await stage.attempt(lambda: Success("said"))
        assert stage.accounts.spent(RUN) == NO_CHARGE

    on_stage(tmp_path, main)


@pytest.mark.parametrize("text", ["", "plain words", "日本語のテキスト", "🦊" * 50, "a" * 10_000, "\ud800"])
def test_an_estimated_prompt_is_held_with_a_token_for_each_byte(text: str) -> None:
    call = BoundCall({"engine": {"model": "m" * 99}, "tools": [["look", "up"]]}, (Message("user", text),), 1)
    engine: Any = PlainEngine()
    most = most_prompt_tokens(call, engine)
    assert most >= len(text.encode("utf-8", "replace")) + len('"tools":[["look","up"]]')
    assert most <= len(text.encode("utf-8", "replace")) + 200, "the engine's identity is no part of a prompt"
    parts = (Message("user", "", (TextPart(text),)),)
    assert most_prompt_tokens(BoundCall(call.payload, parts, 1), engine) == most


def test_an_answer_without_a_bound_may_take_the_rest_of_the_context() -> None:
    class Bounded(PlainEngine):
        def capabilities(self) -> Capabilities:
            return Capabilities(1000, None, False, False, False, counts_exactly=True)

    call = BoundCall({}, CALL.prompt, None)
    bounded, unbounded = Bounded(), Exact()
    assert most_of_call(call, bounded, Tariff(), "engine:local").num_tokens == 1000  # type: ignore[arg-type]  # no generate
    with pytest.raises(RunError, match="nobody knows how long an answer of the engine 'local' may be") as error:
        most_of_call(call, unbounded, Tariff(), "engine:local")  # type: ignore[arg-type]  # as above
    assert "max_tokens" in str(error.value.hint)


def test_those_who_joined_a_call_that_found_no_room_look_for_themselves() -> None:
    async def main() -> None:
        calls: InFlight[str] = InFlight()
        leader = calls.leading(b"key").__enter__()
        joined = leader.answer()
        leader.__exit__(LimitReached, LimitReached("no room"), None)
        with pytest.raises(LeaderLeft):
            await joined

    asyncio.run(main())
