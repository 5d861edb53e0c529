"""The benchmark's data, loaded once for each process of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from halo.workloads.catalog import WORKLOADS, open_data

from sundog.secrets import Secrets

TPCH_SCALE = 0.001


@pytest.fixture(scope="session")
def database_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The URL of the database of a workload."""
    cache: Path = tmp_path_factory.mktemp("bench-data")

    def open_for(workload: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SUNDOG_CACHE", str(cache))
            return open_data(WORKLOADS[workload].data, TPCH_SCALE, None, Secrets({}))

    return open_for
