"""`python -m sundog`: the same as the `sundog` command, where its script is not on the path."""

from __future__ import annotations

from sundog.cli.main import entry

entry()
