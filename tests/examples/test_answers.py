"""The examples keep their promises, whatever the model says: counts, forms and which answers belong together."""

from __future__ import annotations

import json
import re
import sqlite3
import sysconfig
from contextlib import closing
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.engines.test_openvino import needs_model
from tests.examples.stage import EMBEDDED, NULL, copy_example, read_rows, run_example

ENGINES = [pytest.param(NULL, id="null"), pytest.param(EMBEDDED, id="embedded", marks=needs_model)]
NUM_AUDITED_BY_THE_MODEL = 16

pytestmark = pytest.mark.parametrize("engine", ENGINES)


def test_licence_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    folder = tmp_path / "licence_audit"
    copy_example("licence_audit", folder, engine)
    bundled = tmp_path / "bundled-0.1.dist-info"
    bundled.mkdir()
    (bundled / "METADATA").write_text("Metadata-Version: 2.1\nName: bundled\nVersion: 0.1\n")
    monkeypatch.syspath_prepend(tmp_path)  # as a library that brings packages of its own does it
    pip_folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    installed = {re.sub(r"[-_.]+", "-", found.name).lower() for found in distributions(path=pip_folders)}
    limit = len(installed) if engine == NULL else NUM_AUDITED_BY_THE_MODEL
    finished = run_example(folder, "--limit", str(limit))
    assert [row["package"] for row in finished.rows] == sorted(installed)[:limit]
    assert finished.report["num_failed"] == 0
    for row in finished.rows:
        assert row["verdict"] in {"fine", "review", "reject"}
        assert (row["reason"] is None) == (row["verdict"] == "fine")
        assert row["agrees"] == (None if row["expected"] is None else row["verdict"] == row["expected"])
    for step in ("policy", "obligations", "judge"):
        asked, executed = finished.calls(step)
        assert asked == limit
        assert executed < asked, f"packages with one licence text share '{step}'"
    assert finished.calls("reason")[0] == sum(row["verdict"] != "fine" for row in finished.rows)
    assert finished.calls("metadata") == (limit, limit), "a Python function of the user's is not shared"
    assert finished.report["num_computed_prompt_tokens"] < finished.report["num_asked_prompt_tokens"]


def test_handbook_digest(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "handbook_digest"
    copy_example("handbook_digest", folder, engine)
    handbooks = [json.loads(line) for line in (folder / "handbooks.jsonl").read_text().splitlines()]
    sections = [section for handbook in handbooks for section in handbook["sections"]]
    finished = run_example(folder)
    assert [row["title"] for row in finished.rows] == [handbook["title"] for handbook in handbooks]
    rules = [rule for row in finished.rows for rule in row["rules"]]
    assert [len(row["rules"]) for row in finished.rows] == [len(handbook["sections"]) for handbook in handbooks]
    rule_of = {section["body"]: rule for section, rule in zip(sections, rules, strict=True)}
    assert rules == [rule_of[section["body"]] for section in sections], "gathered in the order of the sections"
    assert finished.calls("rules") == (len(sections), len(rule_of))
    assert finished.calls("digest") == (len(handbooks), len(handbooks))


def test_draft_critique(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "draft_critique"
    copy_example("draft_critique", folder, engine)
    finished = run_example(folder)
    assert len(finished.rows) == len((folder / "events.csv").read_text().splitlines()) - 1
    turns = [row["turns"] for row in finished.rows]
    assert len(set(turns)) > 1, "some drafts are good at once and some are not"
    for row in finished.rows:
        assert row["verdict"] == "good" if row["turns"] < 3 else row["verdict"] in {"good", "revise"}
    for step in ("draft", "facts", "critique"):
        assert finished.calls(step)[0] == sum(turns), "one call for each turn"


def test_shop_agent(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "shop_agent"
    copy_example("shop_agent", folder, engine)
    finished = run_example(folder)
    assert len(finished.rows) == len((folder / "questions.jsonl").read_text().splitlines())
    turns = [row["turns"] for row in finished.rows]
    assert len(set(turns)) > 1, "some questions take more turns than others"
    with closing(sqlite3.connect(folder / "shop.sqlite")) as shop, closing(sqlite3.connect(":memory:")) as written:
        price_of = dict(shop.execute("select name, euros from product"))
        written.executescript((folder / "shop.sql").read_text())
        assert list(shop.iterdump()) == list(written.iterdump()), "the file is that of its text"
    for row in finished.rows:
        assert row["turns"] <= 4
        found = [note for note in row["notes"] if note["action"] == "look_up"]
        assert all(note["found"]["euros"] == price_of[note["product"]] for note in found)
        # A turn that found nothing new, or chose to answer, was the last one.
        assert row["turns"] in {len(row["notes"]), len(row["notes"]) + 1}
    for step in ("decide", "memory"):
        assert finished.calls(step)[0] == sum(turns), "one call for each turn"
    asked, executed = finished.calls("look_up")
    assert asked + finished.calls("total")[0] <= sum(turns), "at most one tool in a turn"
    assert executed <= min(asked, len(price_of)), "equal look-ups of all questions are made once"
    assert finished.calls("answer")[0] == len(turns)


def test_medications(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "medications"
    copy_example("medications", folder, engine)
    visits = len((folder / "visits.csv").read_text().splitlines()) - 1
    finished = run_example(folder, "--output", "drugs=drugs.jsonl", output="histories=histories.jsonl")
    histories, drugs = finished.rows, read_rows(folder / "drugs.jsonl")
    assert finished.calls("read")[0] == visits
    assert {row["canonical"] for row in drugs} == {row["drug"] for row in histories}
    assert sum(row["num_visits"] for row in histories) == len(drugs), "each mention is in one history"
    assert finished.calls("summary")[0] == len(histories)
    values = {row["drug"] for row in drugs}
    assert all(row["canonical"] in values for row in drugs)
    (judge,) = [node["node"] for node in finished.report["nodes"] if node["node"] not in ("read", "summary")]
    assert finished.calls(judge)[0] <= len(values) * (len(values) - 1) // 2, "no pair is asked about twice"


def test_reviews(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "reviews"
    copy_example("reviews", folder, engine)
    reviews, products = read_rows(folder / "reviews.csv"), read_rows(folder / "products.csv")
    finished = run_example(folder, "--output", "counted=counted.jsonl", output="urgent=urgent.jsonl")
    urgent, counted = finished.rows, read_rows(folder / "counted.jsonl")
    section = {row["id"]: row["section"] for row in products}
    pairs = sum(section[product] == review["section"] for review in reviews for product in section)
    assert finished.calls("about__judge")[0] == pairs < len(reviews) * len(products), "pairs of one section only"
    assert {row["product"] for row in counted} == section.keys(), "products without a review are there too"
    found = sum(row["num_reviews"] for row in counted)
    assert finished.calls("urgent__judge")[0] == found
    assert len(urgent) == min(5, found)
    scores = [row["score"] for row in urgent]
    assert scores == sorted(scores, reverse=True)
    section_of = {int(row["id"]): row["section"] for row in reviews}
    assert all(section[row["product"]] == section_of[row["review"]] for row in urgent)


def test_report_digest(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "report_digest"
    copy_example("report_digest", folder, engine)
    report = read_rows(folder / "report.csv")
    chapters = list(dict.fromkeys(row["chapter"] for row in report))
    finished = run_example(folder, "--output", "chapters=chapters.jsonl", output="whole=whole.jsonl")
    found = read_rows(folder / "chapters.jsonl")
    assert [row["chapter"] for row in found] == chapters, "in the order of their first paragraphs"
    assert all(row["text"] for row in found)
    (whole,) = finished.rows
    assert whole["digest"]
    chunks, merged = finished.calls("chapters__ask0")[0], finished.calls("chapters__ask1")[0]
    assert len(chapters) <= merged < chunks < len(report), "each level has fewer calls than the one before"
    if engine != NULL:
        return
    path = folder / "report.csv"
    path.write_text(path.read_text().replace("Petrel", "Pelican", 1))
    again = run_example(folder, "--output", "chapters=chapters.jsonl", output="whole=whole.jsonl")
    asked, executed = again.calls("chapters__ask0")
    assert asked == chunks
    assert 0 < executed <= 2, "only the changed paragraph's chunk is asked about anew"
