"""The knowledge that sundog has of modelled engines before a run: as much as a user's would after a calibration and a
first run.

Owns both. Of engines that do not take turns on workers nothing need be known.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from halo.case import Case
from halo.deployments import modelled_profile
from sundog.config import read_config
from sundog.ir.logical import EngineBlock
from sundog.ir.pool_names import engine_pool
from sundog.measured.loads import keep_loads
from sundog.measured.profiles import save_profile
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session


@contextmanager
def calibrated(case: Case, cache: Path) -> Iterator[None]:
    """Let engines be calibrated as `sundog calibrate` leaves them, in a `cache` of their own."""
    for model, block in case.blocks.items():
        options = {name: value for name, value in block.items() if name != "kind"}
        save_profile(cache, EngineBlock(model, block["kind"], options), modelled_profile(model))
    with patch.dict(os.environ, {"SUNDOG_CACHE": str(cache)}):
        yield


def keep_known_loads(case: Case, path: Path, state: Path) -> None:
    """Write into the `state` folder what an earlier run leaves there that loaded each engine of the flow once."""
    plan = plan_session(load_plan(path, {}), path.parent, read_config()).plan
    state.mkdir()
    keep_loads(state, plan, {engine_pool(model): [block["load_s"]] for model, block in case.blocks.items()})
