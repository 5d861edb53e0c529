"""The limits of hosts and databases that a flow names by their addresses.

Owns the way from an address to the pool of the steps that use it. No message tells what of an address may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from sundog.errors import FlowError, suggest
from sundog.flow.complaints import Complaints
from sundog.flow.positions import DataPath, Positions
from sundog.flow.spec import LimitSpec
from sundog.flow.validation import read
from sundog.ir.logical import Step
from sundog.operators.base import OPERATORS, AddressedOperator

_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://")
_NO_PORT = re.compile(r"^([^/:\[]*):(?!\d*(?:/|$))[^/]*")
_OPTIONS = re.compile(r"[?#].*", re.DOTALL)


class LimitReader:
    """This class reads the limits of one flow. `steps`: all of its steps; with `is_whole` False some of them were
    wrong, and an address that is not theirs may be one of those."""

    def __init__(
        self, steps: Iterable[Step], base_dir: Path, positions: Positions, complaints: Complaints, *, is_whole: bool
    ) -> None:
        self._positions = positions
        self._complaints = complaints
        self._is_whole = is_whole
        self._operators: dict[str, AddressedOperator] = {}
        # By pool, and by what the steps work on: the writes of a SQLite file are in a pool that nobody can limit.
        self._pools: set[str] = set()
        self._resources: set[str | None] = set()
        self._addresses: list[str] = []
        for step in steps:
            self._learn(step, base_dir)

    def limits(self, written: Mapping[str, Any], engines: Iterable[str]) -> dict[str, int]:
        """Return the limits by pool; those that are wrong are left out and complained of. `engines`: their names."""
        found: dict[str, int] = {}
        lines: dict[str, int] = {}
        for address, data in written.items():
            path: DataPath = ("limits", address)
            pool = self._pool_at(address, path, engines)
            spec = None if pool is None else read(LimitSpec, data, path, self._positions, self._complaints)
            if pool is None or spec is None:
                continue
            if pool in lines:
                self._add(f"'{shown(address)}' has two limits (line {lines[pool]})", path, "leave one of them")
            lines[pool] = self._positions.key(path).line
            found[pool] = spec.max_concurrency
        return found

    def _learn(self, step: Step, base_dir: Path) -> None:
        operator = self._operators.get(step.operator) or cast(AddressedOperator, OPERATORS.get(step.operator)(base_dir))
        if not hasattr(operator, "pool_at"):
            return
        self._operators[step.operator] = operator
        traits = operator.traits(step.spec)
        self._pools.add(traits.pool)
        self._resources.add(traits.resource)
        self._addresses.append(operator.address_of(step.spec))

    def _pool_at(self, address: str, path: DataPath, engines: Iterable[str]) -> str | None:
        """Return the pool of an address that a step uses; None after complaining."""
        try:
            asked = (operator.pool_at(address) for operator in self._operators.values())
            pool = next((pool for pool in asked if pool is not None), None)
        except FlowError as error:
            self._add(error.what, path, error.hint)
            return None
        if pool in self._pools:
            return pool
        if pool is not None and pool in self._resources:
            what = f"no step reads '{shown(address)}', and it takes one write at a time"
            self._add(what, path, "leave the limit out")
        elif self._is_whole:
            of_engine = f"the limit of an engine is `max_concurrency` in its block, engines.{address}"
            hint = of_engine if address in engines else suggest(shown(address), self._addresses)
            self._add(f"no step uses '{shown(address)}'", path, hint)
        return None

    def _add(self, what: str, path: DataPath, hint: str | None) -> None:
        self._complaints.add(what, self._positions.key(path), hint)


def shown(address: str) -> str:
    """Return an address without user, password and options, and without what should be a port and is none: a password
    stands there where the host was forgotten.

    >>> shown("postgresql://me:${env:WORD}@db.example/shop?x=1"), shown("postgresql://me:word/shop")
    ('postgresql://db.example/shop', 'postgresql://me/shop')
    """
    scheme = _SCHEME.match(address)
    start = "" if scheme is None else scheme.group()
    return start + _NO_PORT.sub(r"\1", _OPTIONS.sub("", address.removeprefix(start).rpartition("@")[2]))
