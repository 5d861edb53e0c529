"""This module finds `${env:NAME}` where it may not stand.

Owns the search for secrets in what the user wrote. Never reads the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sundog.flow.complaints import Complaints
from sundog.flow.positions import DataPath, Positions
from sundog.secrets import PATTERN

_ALMOST = re.compile(r"\$\{(?!env:[A-Za-z_][A-Za-z0-9_]*\})\s*(?:[A-Za-z]+\s*:)?\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}")


def check_no_secrets(data: Any, path: DataPath, positions: Positions, complaints: Complaints) -> None:
    """Complain of every secret in the texts of `data`, which stands at `path`."""
    for place, text in _texts(data, path):
        if found := PATTERN.search(text):
            complaints.add(
                f"the secret {found[0]} may not stand here",
                positions.match(place, PATTERN),
                "secrets go into engine options, database URLs, http steps and arguments of python and mcp steps",
            )


def check_secret_spelling(data: Any, path: DataPath, positions: Positions, complaints: Complaints) -> None:
    """Complain of `${NAME}` and the like, which would be sent as they are."""
    for place, text in _texts(data, path):
        for found in _ALMOST.finditer(text):
            complaints.add(
                f"'{found[0]}' is not replaced by anything",
                positions.match(place, _ALMOST),
                f"a secret is written ${{env:{found[1]}}}",
            )


def _texts(data: Any, path: DataPath) -> Iterator[tuple[DataPath, str]]:
    match data:
        case str():
            yield path, data
        case dict():
            for key, item in data.items():
                yield from _texts(item, (*path, key))
        case list() | tuple():
            for index, item in enumerate(data):
                yield from _texts(item, (*path, index))
