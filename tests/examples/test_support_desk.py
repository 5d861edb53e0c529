"""The support desk pays what it may, asks about the rest, and pays nothing twice where it is killed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.flows import sundog
from tests.engines.test_openvino import needs_model
from tests.examples.model_script import COMMAND, Message, ScriptedModel, results, say, use
from tests.examples.stage import EMBEDDED, NULL, ONE_BY_ONE, copy_example, read_rows, run_example

SMALL = [(101, 3900, 1), (106, 1800, 7)]


def script(messages: list[Message]) -> Message:
    """A model that looks at the orders, and pays back what the ticket names."""
    ticket = next(message["content"] for message in messages if message["role"] == "user")
    found = results(messages)
    if not found:
        return use("orders")
    named = [order for order in found[0] if order["item"] in ticket and "did I pay" not in ticket]
    large = next((order["id"] for order in named if order["cents"] > 5000), 0)
    order = 101 if "order 101" in ticket else named[0]["id"] if named else 0
    if len(found) == 1 and order and not large:
        return use("refund", order=order)
    return say({"reply": f"paid {found[1][0]['num_rows']}" if len(found) > 1 else "seen", "large_order": large})


def make_desk(folder: Path, engine: str) -> Path:
    copy_example("support_desk", folder, engine)
    subprocess.run([sys.executable, "make_desk.py"], cwd=folder, check=True)
    return folder


def refunds(folder: Path) -> list[tuple[int, int, int]]:
    with closing(sqlite3.connect(folder / "desk.db")) as desk:
        return desk.execute("select order_id, cents, ticket from refund order by order_id").fetchall()


@pytest.mark.parametrize(
    "engine", [pytest.param(NULL, id="null"), pytest.param(EMBEDDED, id="embedded", marks=needs_model)]
)
def test_no_model_pays_more_than_it_may(tmp_path: Path, engine: str) -> None:
    folder = make_desk(tmp_path / "desk", engine)
    finished = run_example(folder)
    assert len(finished.rows) == len(read_rows(folder / "tickets.jsonl"))
    assert all(row["turns"] <= 6 for row in finished.rows)
    assert all(cents <= 5000 for _, cents, _ in refunds(folder))
    assert finished.calls("approve") == finished.calls("pay_large") == (0, 0), "nobody is asked by default"


def test_small_orders_are_paid_and_large_ones_are_approved(tmp_path: Path) -> None:
    with ScriptedModel(script) as model:
        folder = make_desk(tmp_path / "desk", model.engine)
        flow = folder / "flow.yaml"
        flow.write_text(flow.read_text().replace("asks_a_person: false", "asks_a_person: true"))
        assert sundog(folder, *COMMAND).exit_code == 3
        assert refunds(folder) == SMALL
        for row, text in (("1", "yes"), ("3", "no")):
            assert sundog(folder, "answer", "last", "--row", row, "--text", text).exit_code == 0
        num_asked = model.num_asked
        finished = run_example(folder, *ONE_BY_ONE)
    assert model.num_asked == num_asked, "no turn is asked again"
    assert refunds(folder) == [SMALL[0], (103, 12000, 2), SMALL[1]]
    assert [row["approved"] for row in finished.rows] == [None, "yes", None, "no", None, None, None]
    assert [row["reply"] for row in finished.rows] == ["paid 1", "seen", "seen", "seen", "paid 0", "paid 0", "paid 1"]


@pytest.mark.slow
def test_killed_at_a_turn_and_continued(tmp_path: Path) -> None:
    with ScriptedModel(script) as model:
        calm, killed = make_desk(tmp_path / "calm", model.engine), make_desk(tmp_path / "killed", model.engine)
        model.kill_at_turns((2, 3, 4), killed, calm)
    assert refunds(killed) == refunds(calm) == SMALL
