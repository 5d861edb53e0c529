"""One document in three forms, before and after a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sundog.cost.estimate import Estimate
from sundog.present.analysis import left_range
from sundog.present.figures import Shown, show_estimate
from sundog.present.tables import LEFT_RANGE
from tests.cli.flows import sundog

EVIL = "</script></style><script>alert(1)</script>\"'><img src=x onerror=alert(2)> & {{ 1 }}"
FLOW = """
name: sharp
engines:
  local: {kind: "null", price: {input_usd_per_mtok: 2, output_usd_per_mtok: 8}}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: %s, max_tokens: 8}
  keep:
    filter: "{{ row.id < 6 }}"
  again:
    loop:
      max_turns: 2
      nodes:
        draft:
          llm: {engine: local, prompt: "{{ facts.text }} {{ loop.turn }} {{ row.id }}", max_tokens: 8}
  check:
    python: {call: "statistics:median", args: {data: "{{ [row.id] }}"}}
outputs: {id: "{{ row.id }}", draft: "{{ again.draft.text }}", root: "{{ check }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prompt = "{% raw %}" + EVIL.replace("{{ 1 }}", "") + "{% endraw %}{{ row.id % 2 }}"
    (tmp_path / "flow.yaml").write_text(FLOW % json.dumps(prompt))
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(8)))
    return tmp_path


class Page(HTMLParser):
    """This class reads a page as a browser would: its tags, its text, and whether tags are closed in order."""

    VOID = frozenset({"meta", "br", "img", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        assert not [name for name, _ in attrs if name.startswith("on")], "nothing runs in this page"
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_and_harmless(folder: Path) -> None:
    ran = sundog(folder, "explain", "flow.yaml", "--format", "html")
    assert ran.exit_code == 0, ran.stderr
    page = Page(ran.stdout)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert page.addresses == []
    assert not re.search(r"url\((?!#)|@import|https?://", ran.stdout)
    assert any("</script>" in text for text in page.texts), "the prompt is shown as it is written"
    names = {text.strip() for text in page.texts}
    assert {"facts", "keep", "again", "draft", "check"} <= names
    assert page.tags.count("rect") == 7, "five steps, the inputs and the outputs"
    assert {"inputs", "rows: rows.jsonl", "keeps rows where row.id < 6", "outputs", "id = row.id"} <= names
    assert any("facts (llm) waits for keep." in text for text in names), "for those who cannot see it"


def test_the_document_is_the_same_in_all_forms(folder: Path, check_golden: Callable[[str, str], None]) -> None:
    found = json.loads(sundog(folder, "explain", "flow.yaml", "--format", "json").stdout)
    assert found["form"] == 1
    assert (found["num_rows"], found["num_sampled"], found["makespan_s"]) == (8, 8, None)
    facts = next(step for step in found["steps"] if step["name"] == "facts")
    assert facts["estimate"]["num_executed"] == {"low": 2.0, "expected": 2.0, "high": 2.0}
    assert [rewrite["rule"] for rewrite in found["rewrites"]][-1] == "merge_calls"
    assert found["totals"]["usd"]["low"] > 0
    text = sundog(folder, "explain", "flow.yaml").stdout
    check_golden("explain/estimate.txt", text[text.index("estimate, from") :])


def test_analyze_puts_the_run_beside_the_estimate(folder: Path, check_golden: Callable[[str, str], None]) -> None:
    command = ("explain", "flow.yaml", "--analyze", "--output", "out.jsonl")
    ran = sundog(folder, *command)
    assert ran.exit_code == 0, ran.stderr
    assert len((folder / "out.jsonl").read_text().splitlines()) == 6
    text = ran.stdout[ran.stdout.index("estimate and actual") :]
    check_golden("explain/analyze.txt", text)
    again = json.loads(sundog(folder, *command, "--format", "json").stdout)
    assert again["actual_makespan_s"] is None
    assert any("--fresh runs everything" in note for note in again["missing"]), "it was finished before"
    actual = {step["name"]: step["actual"] for step in again["steps"]}
    assert actual["facts"]["num_executed"] == 2


def left(text: str) -> list[str]:
    """Lines of counts that left their range; times are the machine's."""
    return [line for line in text.splitlines() if LEFT_RANGE in line and "seconds" not in line]


def test_reused_results_do_not_leave_the_range_of_what_is_executed(folder: Path) -> None:
    command = ("explain", "flow.yaml", "--analyze", "--output")
    assert not left(sundog(folder, *command, "one.jsonl").stdout)
    text = sundog(folder, *command, "two.jsonl").stdout
    assert not left(text)
    assert "note: results of earlier runs answered calls: 6 of facts, 12 of draft; --fresh executes them" in text
    assert re.search(r"facts  calls asked for +6 +6\n +calls executed +2 +0\n", text)
    assert not left(sundog(folder, *command, "three.jsonl", "--fresh").stdout)


def test_what_only_a_run_takes_needs_analyze(folder: Path) -> None:
    ran = sundog(folder, "explain", "flow.yaml", "--output", "out.jsonl")
    assert ran.exit_code == 2
    assert "add --analyze" in ran.stderr


@pytest.mark.parametrize(
    ("estimate", "quantity", "shown"),
    [
        (Estimate.exactly(1234), "num_asked", Shown("1,234", "")),
        (Estimate(9, 10_000, 2.5e6), "num_asked", Shown("≈10.0k", "9-2.50M")),
        (Estimate(99_949, 999_499, 1e12), "num_asked", Shown("≈999k", "99.9k-1,000G")),
        (Estimate(0.0004, 0.5, 123.4), "seconds", Shown("≈0.500", "0.000-123")),
        (Estimate.exactly(0.0123), "usd", Shown("$0.0123", "")),
        (Estimate(0.5, 1.5, 1999), "usd", Shown("≈$1.50", "$0.5000-$1,999.00")),
    ],
)
def test_numbers_as_they_are_read(estimate: Estimate, quantity: str, shown: Shown) -> None:
    assert show_estimate(estimate, quantity) == shown


def test_a_number_leaves_its_range_as_it_is_shown() -> None:
    assert not left_range(Estimate(0.5, 1.4, 2.4), 0, "num_asked")
    assert left_range(Estimate(0.6, 1.4, 2.4), 0, "num_asked")
    assert left_range(Estimate(1.0, 2.0, 3.0), 3.01, "seconds")
    assert left_range(Estimate(1.0, 2.0, 3.0), 0.5, "seconds")
    assert not left_range(Estimate(1.0, 2.0, 3.0), 0.5, "seconds", is_partial=True)
    assert left_range(Estimate(1.0, 2.0, 3.0), 0.0, "num_asked", is_partial=True)
