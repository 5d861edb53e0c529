"""The examples in docstrings are true, and every rewrite rule and every policy has one."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from sundog.optimizer.rules.base import RuleOfTables
from sundog.optimizer.rules.catalog import RULES
from sundog.sched.policy import POLICIES, PolicySet

SOURCE = Path(__file__).resolve().parents[1] / "src"
MODULES = [
    ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    for path in sorted(SOURCE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted
    assert outcome.failed == 0


def policies_of(chosen: PolicySet) -> Iterator[Callable[..., object]]:
    """All functions of a set, those in its tuples too."""
    for field in fields(chosen):
        value = getattr(chosen, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            policy = one[0] if isinstance(one, tuple) else one
            if callable(policy):
                yield policy


def num_examples(part: object) -> int:
    return len(doctest.DocTestParser().get_examples(inspect.getdoc(part) or ""))


def test_every_rule_shows_what_it_changes() -> None:
    rules = [rule.loaded() if isinstance(rule, RuleOfTables) else rule for rule in RULES]
    assert [rule.name for rule in rules if not num_examples(type(rule))] == []


def test_every_policy_shows_what_it_decides() -> None:
    registered = {policy.__name__: policy for name in POLICIES.names() for policy in policies_of(POLICIES.get(name))}
    assert {"first_come", "conservative", "within_load_bound", "prefix_affinity", "exponential_backoff"} <= {
        *registered
    }
    assert [name for name, policy in sorted(registered.items()) if not num_examples(policy)] == []


def test_every_policy_set_says_what_it_prefers() -> None:
    """A set is a constant of the catalog: its docstring is the text below it."""
    body = ast.parse((SOURCE / "sundog" / "sched" / "catalog.py").read_text(encoding="utf-8")).body
    told = {
        ast.unparse(set_.targets[0])
        for set_, text in pairwise(body)
        if isinstance(set_, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert {name for name in POLICIES.names() if POLICIES.get(name).name.upper() not in told} == set()
