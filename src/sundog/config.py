"""The settings that the environment decides, and the one place that reads it.

Owns the variables and their defaults: SUNDOG_STATE, SUNDOG_API_KEY, and those that flows name as
`${env:NAME}`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sundog.errors import ConfigError
from sundog.secrets import Secrets

STATE_DIR = ".sundog"
SERVER_KEY = "SUNDOG_API_KEY"
_CUT_URL = re.compile(r"(s3|gs|az|file):/(?!/)")
# One for the process: what one run reveals, no error of this process may show.
_SECRETS = Secrets(os.environ)


@dataclass(frozen=True, slots=True)
class Config:
    """This class holds what the environment decides."""

    #: The folder of runs, results and event logs; of a state at a URL, its cache on this machine.
    state_dir: Path
    #: The environment that flows may name.
    secrets: Secrets
    #: The key for a server that a run goes through, as a flow would write it; None without one.
    server_key: str | None = None


def read_config(state: str | Path | None = None) -> Config:
    """Return the environment's settings; `state`, a folder or a URL, comes before SUNDOG_STATE."""
    return Config(
        _state_folder(chosen_state(state)), _SECRETS, f"${{env:{SERVER_KEY}}}" if os.environ.get(SERVER_KEY) else None
    )


def environment_secrets() -> Secrets:
    """Return the environment that flows may name."""
    return _SECRETS


def chosen_state(state: str | Path | None) -> str:
    """Return the state that is meant, as it was written: a folder or a URL."""
    return str(state or os.environ.get("SUNDOG_STATE") or STATE_DIR)


def local_state(state: str | None) -> Path | None:
    """Return the folder that `state`, or else SUNDOG_STATE, names; None for a URL, which costs requests to open."""
    chosen = chosen_state(state)
    return None if _is_url(chosen) else Path(chosen)


def _is_url(state: str) -> bool:
    """ConfigError for a URL that has lost a slash, as in a Path: it would name a folder here."""
    if _CUT_URL.match(state):
        raise ConfigError(f"'{state}' is no URL and looks like one", hint="write it as text, with :// in it")
    return "://" in state


def _state_folder(state: str) -> Path:
    if not _is_url(state):
        return Path(state)
    from sundog.engines.embedded.models import cache_folder
    from sundog.store.segments.cache import open_state

    return open_state(state, cache_folder() / "states")
