"""Each statement that a run can make is known wherever its log is read."""

from __future__ import annotations

import subprocess
import sys


def test_a_process_that_only_opens_a_state_knows_all_statements_of_the_store() -> None:
    told = (
        "import sundog.store.segments.cache, pkgutil, importlib, sundog.store;"
        "from sundog.store import statements;"
        "known = set(statements._KNOWN);"
        "[importlib.import_module(one.name) for one in pkgutil.walk_packages(sundog.store.__path__, 'sundog.store.')];"
        "print(sorted(set(statements._KNOWN) - known))"
    )
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
