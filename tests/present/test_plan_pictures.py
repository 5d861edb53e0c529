"""The picture of a plan without an estimate, and the same from the form that a run keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sundog.config import Config
from sundog.ir.values.canonical import canonical_json, describe_value
from sundog.present.live.kept_plan import kept_picture
from sundog.present.live.plan_picture import PlanPicture, drawn, plan_picture
from sundog.secrets import Secrets
from sundog.session.choices import PlanChoices
from sundog.session.flow_file import load_plan
from sundog.session.kept_lists import KeptLists
from sundog.session.session import plan_session

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent.name for path in (ROOT / "examples").glob("*/flow.yaml"))


def pictures(folder: Path, state: Path) -> tuple[PlanPicture, PlanPicture | None]:
    """Return the picture of a flow's plan, and that of the plan as a run keeps it."""
    config = Config(state, Secrets({}))
    written = load_plan(folder / "flow.yaml", {}, KeptLists(config))
    plan = plan_session(written, folder, config, PlanChoices()).plan
    told = {"tables": plan.tables, "inputs": plan.logical.inputs, "results": plan.logical.results}
    return plan_picture(plan), kept_picture(canonical_json(describe_value(told)))


def shape(picture: PlanPicture) -> object:
    """Return all but texts that are told in other words."""
    cards = {name: replace(card, title="", lines=()) for name, card in picture.cards.items()}
    edges = drawn(picture, {}).picture.edges
    return cards, picture.tables, picture.steps, [(edge.source, edge.target) for edge in edges]


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_kept_plan_gives_the_same_picture(example: str, tmp_path: Path) -> None:
    made, kept = pictures(ROOT / "examples" / example, tmp_path)
    assert kept is not None
    assert shape(kept) == shape(made)
    assert made.steps


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"tables": [{}]}', b'{"tables": [], "inputs": 3, "results": []}']
)
def test_another_form_gives_none(text: bytes) -> None:
    assert kept_picture(text) is None
