"""Conversations as a terminal and a page show them, whatever was said in them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sundog.ir.conversations.transcript import (
    Answered,
    Figures,
    KeptCall,
    KeptText,
    RowConversations,
    RowTranscripts,
    Saying,
    Transcript,
    pack_transcripts,
    unpack_transcripts,
)
from sundog.present.conversations import MAX_CHARACTERS, pretty, visible
from sundog.present.conversations_html import conversations_html
from sundog.present.conversations_text import MIN_WIDTH, conversation_lines
from tests.present.test_documents import EVIL, Page

TURN = Figures(0.41, 1_200, 800, 20)


def says(role: str, text: str, turn: int = 0, figures: Figures | None = None, **more: object) -> Saying:
    said = Saying("message", role, KeptText(text), turn, figures=figures)
    return replace(said, **more)  # type: ignore[arg-type]  # fields by name


def call(number: int, name: str, arguments: str) -> KeptCall:
    return KeptCall(f"call_{number}", name, KeptText(arguments))


def row_with(*transcripts: Transcript, state: str = "done", num_left_out: int = 0) -> RowConversations:
    answered = {"00ff": Answered("ann", "2026-11-29T09:00:00+00:00")}
    return RowConversations("desk-1a2b", "17", state, RowTranscripts(transcripts, num_left_out), answered)


LONG = '{"order": 7, "why": "' + "It was broken when it came. " * 4 + '", "parts": [1, 2, 3]}'
AGENT = Transcript(
    "help",
    "agent",
    "max_turns",
    (
        says("system", "You help."),
        says("user", "Where is order 7?\n\nI want my money back."),
        says("assistant", "Let me see.", 1, TURN, calls=(call(1, "order", '{"id":7}'), call(2, "refund", LONG))),
        says("tool", '[{"item":"lamp"}]', 1, Figures(0.02), call_id="call_1"),
        says("tool", "error: the arguments do not fit", 1, Figures(0.0), call_id="call_2", is_error=True),
        says("assistant", "", 2, TURN, calls=(call(3, "ask", '{"question":"Pay?"}'),)),
        says("tool", "yes", 2, Figures(0.0), call_id="call_3", answer_key="00ff"),
    ),
    num_left_out=3,
)
LOOP = Transcript(
    "talk",
    "loop",
    "",
    (
        says("user", "Write.", 1),
        says("assistant", "word " * 500, 1, TURN),
        Saying("step", "check", KeptText("false"), 1, figures=Figures(1.5)),
        says("user", "Again.", 2),
        replace(says("assistant", "Short.", 2, TURN), content=KeptText("Short.", 12_000)),
    ),
)
HUMAN = Transcript(
    "approve",
    "human",
    "",
    (
        Saying("question", "approve", KeptText("Pay 900 to ann?")),
        Saying("person", "approve", KeptText("yes"), answer_key="00ff"),
    ),
)
WAITING = Transcript("wait", "agent", "waits", (says("assistant", "", 1, TURN, calls=(call(1, "ask", "{}"),)),))
EVERYTHING = row_with(AGENT, LOOP, HUMAN, WAITING, num_left_out=2)


def text_of(row: RowConversations, width: int = 72, *, is_full: bool = False) -> str:
    return "\n".join(line.text for line in conversation_lines(row, width, is_full=is_full)) + "\n"


def test_all_there_is_is_told(check_golden: Callable[[str, str], None]) -> None:
    check_golden("conversations/everything.txt", text_of(EVERYTHING))
    heads = [line.text for line in conversation_lines(EVERYTHING, 72, is_full=False) if line.is_head]
    assert "  calls order" in heads
    assert "    You help." not in heads


def test_all_that_is_kept_is_told_where_it_is_asked_for() -> None:
    full = text_of(EVERYTHING, is_full=True)
    assert full.count("word") == 500 > text_of(EVERYTHING).count("word")
    assert "more characters)" in full, "of what was not kept"
    assert "--full" not in full


def test_the_page_is_whole_and_harmless() -> None:
    evil = f"{EVIL}\x1b[2J\x00\u202egnp.exe\ud800"
    said = (says(evil, evil, calls=(call(1, evil, evil),)), says("tool", evil, call_id="call_1"))
    row = row_with(Transcript(evil, "agent", evil, said), state=f"failed at help: {evil}")
    text = conversations_html(row, is_full=False)
    page = Page(text)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert page.addresses == []
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert sum("<script>alert(1)</script>" in one for one in page.texts) >= 5, "all is shown as it was said"
    assert text.isascii()
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)
    shown = text_of(row)
    assert "\\u202egnp.exe\\ud800" in shown
    assert shown.replace("\n", "").isprintable()


def test_a_page_has_the_blocks_of_the_text() -> None:
    page = Page(conversations_html(EVERYTHING, is_full=False))
    texts = [text.strip() for text in page.texts if text.strip()]
    for head in (
        "help: agent, 2 turns, stopped: max_turns",
        "refund fails",
        "a person answers ask",
        "turn 2: assistant",
    ):
        assert head in texts
    assert "ann, 2026-11-29T09:00:00+00:00" in texts
    assert "2 more conversations of this row are not kept." in texts
    assert "sundog trace desk-1a2b --row 17 --full" in texts
    assert "--full" not in conversations_html(EVERYTHING, is_full=True)


@given(st.text(), st.integers(1, 200))
def test_nothing_acts_on_a_terminal_or_leaves_its_width(text: str, width: int) -> None:
    row = row_with(Transcript("help", "agent", "answer", (says("assistant", text, 1, TURN),)))
    for line in conversation_lines(row, width, is_full=True):
        assert all(one.isprintable() or one in "\u200c\u200d" for one in line.text)
        assert cell_len(line.text) <= max(width, MIN_WIDTH)


def test_letters_that_can_be_seen_stay() -> None:
    assert (
        visible("a\r\n\tb\u00a0c 日本 \u0645\u200c\u06cc 👩\u200d💻") == "a\n    b c 日本 \u0645\u200c\u06cc 👩\u200d💻"
    )
    assert visible("\x07\u2066\ue000") == "\\u0007\\u2066\\ue000"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":1}', '{"a": 1}'),
        ("[" * 5_000, "[" * 5_000),
        ('{"a": ', '{"a": '),
        ("12", "12"),
        ('["' + "x" * 90 + '",{"b":[1,2]}]', '[\n  "' + "x" * 90 + '",\n  {"b": [1, 2]}\n]'),
        ('{"é":"' + "x" * 90 + '","b":{}}', '{\n  "é": "' + "x" * 90 + '",\n  "b": {}\n}'),
    ],
)
def test_json_is_laid_out(text: str, shown: str) -> None:
    assert pretty(KeptText(text)) == KeptText(shown)
    assert pretty(KeptText(text, 1)) == KeptText(text, 1), "a part of JSON is none"


def test_a_huge_text_is_short() -> None:
    row = row_with(Transcript("help", "agent", "answer", (says("user", "x" * 10_000_000),)))
    assert len(text_of(row)) < 2 * MAX_CHARACTERS
    assert "(9,998,500 more characters)" in text_of(row)


def test_the_kept_form_is_read_back() -> None:
    assert unpack_transcripts(pack_transcripts(EVERYTHING.kept)) == EVERYTHING.kept
    assert EVERYTHING.kept.ended == "max_turns, waits"
    for damaged in (b"", pack_transcripts(EVERYTHING.kept)[:-9], b"x\x9c\x03\x00\x00\x00\x00\x01"):
        with pytest.raises(ValueError, match=r"."):
            unpack_transcripts(damaged)
