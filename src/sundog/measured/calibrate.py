"""Calibrates an engine block: opens its first replica, measures it, fits the step time.

Owns the order of these steps. The measuring is calibrate_rounds', the fit is cost's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime

from sundog.cost.profile import Profile
from sundog.cost.step_time import fit, fit_error_of, with_total
from sundog.deployment import opened
from sundog.engines.base import Engine
from sundog.ir.logical import EngineBlock
from sundog.measured.calibrate_rounds import MeasuredRounds, measure
from sundog.measured.profiles import machine
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers


async def calibrate_engine(
    block: EngineBlock, secrets: Secrets, servers: RunServers, *, budget_s: float, on_round: Callable[[int, int], None]
) -> Profile:
    """Return the profile of the block's first replica, measured for about `budget_s`; EngineError and ConfigError as
    the engine raises them, RunError when it does not show its steps."""
    kind, options = opened(block)
    load_1min = os.getloadavg()[0]
    async with servers.serving([block]):
        engine = servers.attach(f"{block.name}/0") or kind.open(options, 0, secrets)
        return await _calibrate(engine, options.max_concurrency, load_1min, budget_s, on_round)


async def _calibrate(
    engine: Engine, max_concurrency: int, load_1min: float, budget_s: float, on_round: Callable[[int, int], None]
) -> Profile:
    try:
        await engine.start()
        measured = await measure(engine, max_concurrency, budget_s=budget_s, on_round=on_round)
    finally:
        await engine.close()
    return profile_of(measured, load_1min)


def profile_of(measured: MeasuredRounds, load_1min: float) -> Profile:
    """Return the profile that fits these measurements, with its errors on the steps it was fitted to and on those that
    were held out."""
    model = with_total(fit(measured.fit), measured.fit)
    facts = {
        **machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_1min": round(load_1min, 2),
    }
    return Profile(
        model, measured.limits, fit_error_of(model, measured.fit), fit_error_of(model, measured.held_out), facts
    )
