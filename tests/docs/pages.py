"""The documents as data: fenced blocks with the comment above them, inline code, tables by heading.

Owns the reading of Markdown. A comment right above a block says how the tests take it:

    <!-- file: NAME -->                  the block is that file
    <!-- output -->                      what the command or code before it prints
    <!-- output, with other numbers -->  the same, but numbers come from another engine
    <!-- output, in part -->             lines of it
    <!-- exit N -->                      the commands end with that code (0 without it)
    <!-- served: FLOW -->                a server with this flow answers the curl commands below
    <!-- status N -->                    the curl command is answered with that status (200 without it)
    <!-- not run: REASON -->             left alone
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """`mark`: the comment above without its dashes. `line` counts from 1."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks in order."""
    mark = ""
    for token in _tokens(page):
        if token.type == "html_block" and token.content.startswith("<!--"):
            mark = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
        elif token.type == "fence":
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.info, token.content, mark)
            mark = ""
        elif token.level == 0:
            mark = ""


def inline_codes(page: Path) -> Iterator[str]:
    """Everything between backticks."""
    for token in _tokens(page):
        yield from (child.content for child in token.children or () if child.type == "code_inline")


def headings(page: Path) -> list[str]:
    tokens = _tokens(page)
    return [below.content for token, below in pairwise(tokens) if token.type == "heading_open"]


def tables(page: Path) -> dict[str, list[list[str]]]:
    """The rows of every table (without its head) under the heading above it, cells as Markdown."""
    found: dict[str, list[list[str]]] = {}
    heading, is_body, previous = "", False, ""
    for token in _tokens(page):
        match token.type:
            case "inline" if previous == "heading_open":
                heading = token.content
            case "tbody_open" | "tbody_close":
                is_body = token.type == "tbody_open"
            case "tr_open" if is_body:
                found.setdefault(heading, []).append([])
            case "inline" if is_body:
                found[heading][-1].append(token.content)
            case "td_close" if is_body and previous == "td_open":
                found[heading][-1].append("")
        previous = token.type
    return found


def _tokens(page: Path) -> list[Token]:
    return _PARSER.parse(page.read_text(encoding="utf-8"))
