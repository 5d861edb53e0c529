"""The options of one variant as Python users write them, and the same as a line of the command.

Owns their names and forms. What they mean is read from the line, in one place for both.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from sundog.errors import suggest


class VariantOptions(TypedDict, total=False):
    """These options say what a variant changes, as those of `sundog simulate` do."""

    #: Simulate so many rows; more than there are repeat those that there are.
    rows: int | None
    #: Numbers of replicas by engine.
    replicas: Mapping[str, int]
    #: Numbers of workers by group.
    workers: Mapping[str, int]
    policy: str | None
    max_rows_in_flight: int | None
    #: The name or file of a profile, for all engines or by engine.
    engine_profile: str | Mapping[str, str]
    #: Replicas that come and go, by engine, each as in `1..8:queue`.
    autoscale: Mapping[str, str]
    #: Prefill and decode on replicas of their own, by engine, each as in `2+6:50GB/s`.
    split_phases: Mapping[str, str]
    #: Failures, each as in `local#1@120s`.
    fail: str | Sequence[str]


_EXAMPLES = {"replicas": 4, "workers": 4, "autoscale": "1..8:queue", "split_phases": "2+6:50GB/s"}
"""Options that are mappings, with a value of each."""


def option_line(options: Mapping[str, Any]) -> str:
    """Return the options as one line, as `--compare` takes it. TypeError for an option that no variant has, and for
    what must be a mapping and is none.

    >>> option_line({"rows": 50, "replicas": {"local": 2}, "fail": "local#1@9s"})
    '--rows 50 --replicas local=2 --fail local#1@9s'
    """
    if not isinstance(options, Mapping):
        raise TypeError(f"a variant must be a mapping of options, as in {{'policy': 'fcfs'}}; not {options!r}")
    for name in options:
        if name not in VariantOptions.__optional_keys__:
            raise TypeError(f"unknown option '{name}' of a variant: {suggest(name, VariantOptions.__optional_keys__)}")
    return " ".join(_quoted(word) for name, value in options.items() for word in _words(name, value))


def _words(name: str, value: Any) -> Iterator[str]:
    if name in _EXAMPLES and value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, as in {name}={{'local': {_EXAMPLES[name]!r}}}; not {value!r}")
    for text in _texts(value):
        yield from (f"--{name.replace('_', '-')}", text)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case None:
            return
        case Mapping():
            yield from (f"{key}={one}" for key, one in value.items())
        case list() | tuple():
            yield from map(str, value)
        case _:
            yield str(value)


def _quoted(word: str) -> str:
    """Return a word as its user would type it: in quotation marks where it is not read as it is."""
    return word if word and not set(word) & set(" \t\n\r'\"\\") else shlex.quote(word)
