"""Every set is registered under its own name, and said in the documents."""

from __future__ import annotations

import re
from pathlib import Path

from sundog.sched import catalog
from sundog.sched.policy import PolicySet
from tests.sched.sets import REGISTERED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "policies.md"


def test_every_set_of_the_catalog_is_registered_under_its_name() -> None:
    public = {value.name for name, value in vars(catalog).items() if isinstance(value, PolicySet) and name[0] != "_"}
    assert public == set(REGISTERED)
    assert [name for name, policies in REGISTERED.items() if policies.name != name] == []


def test_the_page_has_a_paragraph_for_every_set_and_says_when_it_loses() -> None:
    sections = re.findall(r"^### (\w+)\n\n(.*?)(?=^#|\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert {name for name, _ in sections} == set(REGISTERED)
    assert [name for name, text in sections if "loses" not in text.lower()] == []
