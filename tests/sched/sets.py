"""The policy sets as pyproject.toml registers them, whatever the environment that runs the tests has installed."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

from sundog.sched.policy import PolicySet

_PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
GROUP = "sundog.policies"
REGISTERED: dict[str, PolicySet] = {
    name: EntryPoint(name, value, GROUP).load() for name, value in _PROJECT["project"]["entry-points"][GROUP].items()
}
SETS = tuple(REGISTERED.values())
