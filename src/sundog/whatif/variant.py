"""One variant of a flow's deployment, as an option line says it.

Owns what a variant may change, and the check that the flow has it. Never simulates.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeVar

from pydantic import ValidationError

from sundog.deployment import opened
from sundog.errors import ConfigError, suggest
from sundog.ir.logical import EngineBlock, LogicalPlan
from sundog.whatif.autoscale import OPTION as AUTOSCALE
from sundog.whatif.autoscale import ChosenScaling, read_scaling
from sundog.whatif.split import MAX_REPLICAS, ChosenSplit, read_splits
from sundog.whatif.split import OPTION as SPLIT

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Variant:
    """The changes of one variant; what is None or left out stays as the flow says.

    >>> read_variant("--replicas local=4 --policy fcfs", Variant()).replicas
    {'local': 4}
    """

    #: The line by which a reader knows it.
    title: str = "as planned"
    num_rows: int | None = None
    #: By engine.
    replicas: Mapping[str, int] = field(default_factory=dict)
    #: By group of workers.
    workers: Mapping[str, int] = field(default_factory=dict)
    policy: str | None = None
    max_rows_in_flight: int | None = None
    #: Names of profiles by engine; "" for all others.
    profiles: Mapping[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    #: By engine.
    autoscale: Mapping[str, ChosenScaling] = field(default_factory=dict)
    #: By engine.
    splits: Mapping[str, ChosenSplit] = field(default_factory=dict)

    def applied(self, plan: LogicalPlan) -> LogicalPlan:
        """Return the plan with these engines and workers. ConfigError for those that it does not have or has no room
        for, and for numbers below 1."""
        _check_least("--rows", self.num_rows)
        _check_least("--max-rows-in-flight", self.max_rows_in_flight)
        known_engines = [block.name for block in plan.engines]
        known_groups = [group.name for group in plan.workers]
        _check_known("--workers", "group of workers", self.workers, known_groups)
        _check_known("--engine-profile", "engine", [name for name in self.profiles if name], known_engines)
        machines = {"--replicas": self.replicas, AUTOSCALE: self.autoscale, SPLIT: self.splits}
        for option, given in machines.items():
            _check_known(option, "engine", given, known_engines)
            _check_not_on_workers(option, given, plan.engines)
        for name in known_engines:
            _check_one(name, [option for option, given in machines.items() if name in given])
        engines = tuple(self._with_replicas(block) for block in plan.engines)
        groups = tuple(replace(group, count=self.workers.get(group.name, group.count)) for group in plan.workers)
        for block in engines:
            self._check_room(block)
        return replace(plan, engines=engines, workers=groups)

    def _with_replicas(self, block: EngineBlock) -> EngineBlock:
        number = self.replicas.get(block.name)
        if number is None:
            return block
        options = dict(block.options)
        urls = options.get("base_url")
        if urls:
            # Each address is one replica; those that are not there yet are taken to be as the first.
            first = urls[0] if isinstance(urls, list | tuple) else urls
            options["base_url"] = [first] * number
        return replace(block, options={**options, "replicas": number})

    def _check_room(self, block: EngineBlock) -> None:
        """Raise ConfigError where an engine cannot have as many replicas, or workers, as it is given here."""
        option, name = ("--replicas", block.name) if block.workers is None else ("--workers", block.workers)
        number = (self.replicas if block.workers is None else self.workers).get(name)
        if number is None:
            return
        where = f"{option} {name}={number}"
        try:
            _, options = opened(block)
        except ValidationError as error:
            what = f"the engine '{block.name}' cannot have {number} replicas: {error.errors()[0]['msg']}"
            raise ConfigError(what, where=where, hint="take another kind of engine, or fewer replicas") from error
        most = options.max_replicas()
        if most is not None and number > most:
            raise ConfigError(
                f"the GPUs that the engine '{block.name}' names have room for {most}",
                where=where,
                hint="give fewer, name more in its block, or leave them out there to simulate others",
            )


def read_variant(line: str, base: Variant) -> Variant:
    """Return the variant that a line of options says, on top of `base`. ConfigError for what is no such option."""
    parser = _Parser(line)
    for name in ("--replicas", "--workers", "--engine-profile", "--fail", AUTOSCALE, SPLIT):
        parser.add_argument(name, action="append", default=[])
    for name in ("--rows", "--max-rows-in-flight"):
        parser.add_argument(name, type=int)
    parser.add_argument("--policy")
    try:
        given = parser.parse_args(shlex.split(line))
    except ValueError as error:  # an open quotation mark
        raise ConfigError(f"not a line of options: {error}", where=f"--compare {line!r}") from error
    replicas, autoscale = read_counts("--replicas", given.replicas), read_scaling(given.autoscale)
    splits = read_splits(given.split_phases)
    told = {*replicas, *autoscale, *splits}
    return replace(
        base,
        title=line.strip() or base.title,
        num_rows=base.num_rows if given.rows is None else given.rows,
        replicas=_without(base.replicas, told) | replicas,
        autoscale=_without(base.autoscale, told) | autoscale,
        splits=_without(base.splits, told) | splits,
        workers={**base.workers, **read_counts("--workers", given.workers)},
        policy=given.policy or base.policy,
        max_rows_in_flight=(base.max_rows_in_flight if given.max_rows_in_flight is None else given.max_rows_in_flight),
        profiles={**base.profiles, **read_profile_names(given.engine_profile)},
        failures=(*base.failures, *given.fail),
    )


def read_counts(option: str, written: Iterable[str]) -> dict[str, int]:
    """Return the counts of `NAME=N` texts; ConfigError for another form."""
    found: dict[str, int] = {}
    for text in written:
        name, _, number = text.partition("=")
        if not name or not number.isdecimal() or not int(number):
            raise ConfigError(f"{option} {text!r} is not of the form NAME=N", hint=f"as in {option} local=4")
        if name in found:
            raise ConfigError(f"{option} {name}= is given twice", hint="give it once")
        if len(number) > len(str(MAX_REPLICAS)) or int(number) > MAX_REPLICAS:
            raise ConfigError(f"{option} {text!r} are too many", hint=f"at most {MAX_REPLICAS:,}")
        found[name] = int(number)
    return found


def read_profile_names(written: Iterable[str]) -> dict[str, str]:
    """Return the names of profiles by engine, of texts NAME or ENGINE=NAME; ConfigError for two of one engine."""
    found: dict[str, str] = {}
    for text in written:
        engine, equals, name = text.partition("=")
        key = engine if equals else ""
        if key in found:
            raise ConfigError(
                f"--engine-profile is given twice for {engine if equals else 'all engines'}", hint="give it once"
            )
        found[key] = name if equals else engine
    return found


class _Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would end the process."""

    def __init__(self, line: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._line = line

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with the line in which the mistake is."""
        raise ConfigError(
            message,
            where=f"--compare {self._line!r}",
            hint="a variant takes --rows, --replicas, --workers, --policy, --max-rows-in-flight, --engine-profile, "
            "--fail, --autoscale and --split-phases",
        )


def _check_known(option: str, kind: str, given: Iterable[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"the flow has no {kind} '{name}'", where=option, hint=suggest(name, known))


def _check_not_on_workers(option: str, given: Mapping[str, object], engines: Iterable[EngineBlock]) -> None:
    for block in engines:
        if block.name in given and block.workers is not None:
            raise ConfigError(
                f"the engine '{block.name}' is on workers and has no replicas of its own",
                where=f"{option} {block.name}",
                hint=f"say --workers {block.workers}=N",
            )


def _check_one(engine: str, options: Sequence[str]) -> None:
    if len(options) > 1:
        raise ConfigError(
            f"the replicas of '{engine}' are told twice",
            where=" and ".join(options),
            hint="leave one away; variants of --compare may differ in it",
        )


def _without(given: Mapping[str, V], told: Set[str]) -> dict[str, V]:
    """Return what is given for engines of which a line does not say anew what replicas they have."""
    return {name: value for name, value in given.items() if name not in told}


def _check_least(option: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise ConfigError(f"{number} is too few", where=option, hint="give 1 or more, or leave it away")
