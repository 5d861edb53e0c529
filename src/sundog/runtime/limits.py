"""The limits of one run: its account, its deadline, and what is said when one is reached.

Owns what a run's limits mean. Which call fits is the ledger's affair, and asking it that of the calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sundog.deployment import used_engines
from sundog.engines.base import Engine
from sundog.errors import ConfigError, LimitReached
from sundog.execution.calls.charging import bounds_calls
from sundog.execution.calls.payment import limit_reached
from sundog.execution.plan_calls import tariffs_of
from sundog.execution.spending import SpendingAccounts
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_of, engine_pool
from sundog.ledger.charges import NANO_PER_USD, NO_CHARGE, Charge, nano_usd_of, shown_usd
from sundog.ledger.ledger import NO_LIMITS, LimitName, LimitRefusal, SpendingLimits, SpendingScope
from sundog.operators.base import Operator
from sundog.runtime.figures.progress import Progress
from sundog.runtime.run_options import RunOptions
from sundog.store.runs import RunRecord
from sundog.store.spending import SpentBook, part_of_run
from sundog.store.store import Store
from sundog.store.totals import node_totals

MAX_USD, MAX_TOKENS = "max_usd", "max_tokens"
"""The names of budgets among the shares of a plan: billionths of a dollar, and tokens."""


class RunLimits:
    """This class holds the limits of a run in one process. A run that never had any costs nothing here; one that had
    some before is counted on.

    Where several processes work on a run, that which drives it gives each of the others, its cells, a share of what
    `begin_shared` says is left: the first is in the cell's plan, and `share` changes it. A cell's calls wait for a
    larger share, and its deadline is the driver's affair.
    """

    def __init__(
        self, plan: PhysicalPlan, record: RunRecord, options: RunOptions, store: Store, *, cell: str | None = None
    ) -> None:
        """Raise ConfigError for what is no limit. `cell`: the name of this process, where it is one of several."""
        began_s = datetime.fromisoformat(record.started_at).timestamp()
        deadline_s = None if options.deadline_s is None else began_s + options.deadline_s
        self._limits = SpendingLimits(options.max_usd, options.max_tokens, deadline_s)
        self._began_at = record.started_at[:19]
        self._plan = plan
        self._tariffs = tariffs_of(plan)
        self._run = SpendingScope("run", record.run_id)
        self._is_cell = cell is not None
        self._scope = self._run if cell is None else part_of_run(record.run_id, cell)
        self._store = store
        self.accounts: SpendingAccounts | None = None

    @property
    def payers(self) -> tuple[SpendingScope, ...]:
        """Return the accounts that its calls are paid from."""
        return () if self.accounts is None else (self._scope,)

    def check(self) -> None:
        """Raise ConfigError where dollars are limited and nothing has a price, LimitReached where the deadline has
        passed: before anything is started."""
        pools = [engine_pool(block.name) for block in used_engines(self._plan)]
        if self._limits.max_usd is not None and all(self._tariffs[pool].is_free for pool in pools):
            hint = "give the engine a `price`, or limit tokens: --max-tokens (in Python max_tokens)"
            raise ConfigError("dollars are limited, and no engine of the flow has a price", hint=hint)
        deadline_s = self._limits.deadline_s
        if deadline_s is not None and time.time() >= deadline_s:
            raise self._too_late(deadline_s)

    def open(self, engines: Mapping[str, Engine], operators: Mapping[str, Operator]) -> None:
        """Open the account, with what the run has spent so far. `engines`: one of each pool that is started.
        ConfigError where nobody knows how long the answers of one may be."""
        if not self._are_counted():
            return
        for call in calls_of(self._plan.nodes):
            engine = engines.get(call.pool)
            if engine is None or call.pool not in self._tariffs:
                continue
            is_open = operators[call.step.operator].traits(call.step.spec).max_tokens is None
            is_needed = bounds_calls(self._limits, self._tariffs[call.pool])
            if is_open and is_needed and engine.capabilities().max_context_tokens is None:
                what = f"nobody knows how long an answer of the engine '{engine_of(call.pool)}' may be"
                hint = f"give the step '{call.name}' `max_tokens`: what a call may cost is reserved before it starts"
                raise ConfigError(f"{what}, so that no limit can hold", hint=hint)
        self.accounts = SpendingAccounts(self._store)
        if self._is_cell:
            self.accounts.open(self._scope, self._limits_of_shares(self._plan.shares), is_counted=True)
        else:
            self.accounts.open(self._scope, self._limits, spent=self._spent_before())

    def begin_shared(self) -> dict[str, int]:
        """Take up what the run has spent so far, before its cells begin, and return what is left for them of each
        budget: MAX_USD in billionths of a dollar, MAX_TOKENS in tokens."""
        if not self._are_counted():
            return {}
        self.accounts = SpendingAccounts(self._store)
        self.accounts.open(self._run, self._limits, spent=self._spent_before())
        limits, spent = self._limits, self.accounts.spent(self._run)
        left = {}
        if limits.max_usd is not None:
            left[MAX_USD] = max(0, nano_usd_of(limits.max_usd) - spent.nano_usd)
        if limits.max_tokens is not None:
            left[MAX_TOKENS] = max(0, limits.max_tokens - spent.num_tokens)
        return left

    def used_up(self, budget: str, cells_spent: int, asked: int) -> LimitReached:
        """Return the error that ends a run whose budget has nothing left for the next call of a cell, which may cost
        `asked`. `cells_spent`: what the cells have spent of it."""
        assert self.accounts is not None, "begin_shared comes first"
        of_usd = budget == MAX_USD
        charges = (Charge(amount) if of_usd else Charge(0, amount) for amount in (cells_spent, asked))
        spent, call = self.accounts.spent(self._run) + next(charges), next(charges)
        name: LimitName = "max_usd" if of_usd else "max_tokens"
        return limit_reached(
            LimitRefusal(self._run, name, self._limits, spent, NO_CHARGE, call, time.time(), may_fit_later=False)
        )

    def share(self, shares: Mapping[str, int]) -> None:
        """Let the calls of this cell cost so much of each budget: what ended calls have cost counts too."""
        if self.accounts is not None:
            self.accounts.open(self._scope, self._limits_of_shares(shares))

    def let_go(self) -> None:
        """Let no call of this cell wait for a larger share any more: LimitReached where its share has no room."""
        if self.accounts is not None:
            self.accounts.open(self._scope, replace(self.accounts.limits(self._scope), may_grow=False))

    def use(self) -> dict[str, tuple[int, int, int]]:
        """Return of each budget what this cell's calls have spent, what those hold that run, and what the first one
        that waits may cost."""
        if self.accounts is None:
            return {}
        scope, limits = self._scope, self._limits
        charges = (self.accounts.spent(scope), self.accounts.reserved(scope), self.accounts.first_waiting(scope))
        spent, held, asked = charges
        found = {}
        if limits.max_usd is not None:
            found[MAX_USD] = (spent.nano_usd, held.nano_usd, asked.nano_usd)
        if limits.max_tokens is not None:
            found[MAX_TOKENS] = (spent.num_tokens, held.num_tokens, asked.num_tokens)
        return found

    def close(self) -> None:
        """Hand over to the store what is to be written."""
        if self.accounts is not None:
            self.accounts.flush()

    @contextmanager
    def holding(self, stop: Callable[[LimitReached], None], progress: Progress) -> Iterator[None]:
        """Call `stop` at the deadline. LimitReached that passes is told how far the run has come."""
        deadline_s, timer = self._limits.deadline_s, None
        if deadline_s is not None:
            too_late = self._too_late(deadline_s)
            timer = asyncio.get_running_loop().call_later(deadline_s - time.time(), stop, too_late)
        try:
            yield
        except LimitReached as reached:
            of_all = "" if progress.num_rows is None else f" of {progress.num_rows:,}"
            reached.what += f"; {progress.num_ended:,}{of_all} rows have ended, and every finished call is kept"
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def notes(self) -> Iterator[str]:
        """Yield what was spent of what is limited."""
        found = SpentBook(self._store).written(self._run)
        if found is None:
            return
        limits, spent = self._limits, found.spent + found.reserved
        of_usd = "" if limits.max_usd is None else f" of {shown_usd(nano_usd_of(limits.max_usd))}"
        of_tokens = "" if limits.max_tokens is None else f" of {limits.max_tokens:,}"
        yield (
            f"spent {shown_usd(spent.nano_usd)}{of_usd} and {spent.num_tokens:,}{of_tokens} tokens, with calls that"
            " failed or were killed"
        )

    def _too_late(self, deadline_s: float) -> LimitReached:
        spent = (NO_CHARGE, NO_CHARGE, NO_CHARGE)
        reached = limit_reached(
            LimitRefusal(self._run, "deadline", self._limits, *spent, deadline_s, may_fit_later=False)
        )
        reached.hint = f"it counts from the run's begin at {self._began_at}: {reached.hint}"
        return reached

    def _are_counted(self) -> bool:
        return self._limits != NO_LIMITS or SpentBook(self._store).written(self._run) is not None

    def _limits_of_shares(self, shares: Mapping[str, int]) -> SpendingLimits:
        """Return the limits of this cell: nothing of a budget that it has no share of yet."""
        max_usd = None if self._limits.max_usd is None else shares.get(MAX_USD, 0) / NANO_PER_USD
        max_tokens = None if self._limits.max_tokens is None else shares.get(MAX_TOKENS, 0)
        return SpendingLimits(max_usd, max_tokens, may_grow=True)

    def _spent_before(self) -> Charge:
        """Return what the calls have cost that earlier processes have made without limits."""
        totals = node_totals(self._store, self._run.name)
        spent = NO_CHARGE
        for call in calls_of(self._plan.nodes):
            tariff, node = self._tariffs.get(call.pool), totals.get(call.name)
            if tariff is not None and node is not None:
                spent += tariff.charge(node.num_prompt_tokens, node.num_output_tokens, node.num_cached_tokens)
        return spent
