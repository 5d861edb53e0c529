"""Every flow, command and Python block of the documents is run, on the null engine, in the order of its page."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.stage import Stage, prepare

LANGUAGE = ROOT / "docs" / "flow-language.md"
EXAMPLE = "example.yaml"


def base_flow() -> dict[str, Any]:
    """The flow that parts of flows complete, on every page."""
    (text,) = (block.text for block in blocks(LANGUAGE) if block.mark == f"file: {EXAMPLE}")
    flow: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return flow


def put_fixtures(folder: Path) -> None:
    """Write the files that the reference mentions and does not show."""
    for block in blocks(LANGUAGE):
        if block.mark.startswith("file: "):
            (folder / block.mark.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript(
            "create table price (product text, cents integer); insert into price values ('kettle', 3900);"
            "create table log (ticket integer, kind text); create table product (name text, manual text);"
        )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    put_fixtures(tmp_path)
    with Stage(tmp_path, base_flow(), monkeypatch) as stage:
        for block in blocks(page):
            try:
                stage.play(block)
            except BaseException as error:
                error.add_note(f"in the block at {block.where}")
                raise


@pytest.mark.parametrize(
    ("language", "text", "mark"),
    [
        ("yaml", "nodes: {a: {llm: {engine: local, prompt: '{{ row.nothing }}'}}}", ""),
        ("yaml", "nodes: {a: {llm: {engine: local, promt: hello}}}", ""),
        ("yaml", "nodes: {a: {python: {call: 'math:sqrt', args: {x: '-1'}}}}", ""),
        ("yaml", "engines: {local: {kind: openai, base_url: 'http://x/v1', model: m, timeout: 3}}", ""),
        ("sh", "sundog run example.yaml --no-such-option", ""),
        ("sh", "sundog run example.yaml", "exit 2"),
        ("sh", "make nothing", ""),
        ("sh", "rm -rf .", ""),
        ("sh", "curl localhost:8321/v1/flows", ""),
        ("python", "import sundog as sd\nsd.Flow('a').llmm()", ""),
        ("text", "anything", "output"),
        ("text", "anything", ""),
        ("yaml", "nodes: {}", "not run: "),
    ],
)
def test_a_block_that_lies_is_found(
    language: str, text: str, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(tmp_path, monkeypatch)
    put_fixtures(tmp_path)
    with pytest.raises((Exception, SystemExit)):
        Stage(tmp_path, base_flow(), monkeypatch).play(Block(LANGUAGE, 1, language, text, mark.strip()))
