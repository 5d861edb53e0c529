"""The live page: what it shows, to whom, and that nothing of what it shows is run."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

from sundog.ir.logical import EngineBlock
from tests.browser import DESKTOP, PHONE, Tab, browser_tab
from tests.serve.asking import ask
from tests.serve.keyed import added
from tests.serve.running import Running, running
from tests.serve.test_keys_at_doors import bearer

NAME = "<b>alert(1)<-b>"
ANTS = "</li><img src=x onerror=alert(2)>"
HOSTILE = """
name: "<b>alert(1)<-b>"
engines:
  local: {kind: "null", model: "<i>m"}
inputs:
  rows: {path: "<u>rows.jsonl"}
nodes:
  facts:
    llm: {engine: local, prompt: "Facts on {{ row.topic }}"}
  tone:
    llm: {engine: local, prompt: "The tone of {{ row.topic }}"}
  wanted:
    require: {that: "{{ row.topic != '</li><img src=x onerror=alert(2)>' }}", else: "refused: {{ row.topic }}"}
  answer:
    llm: {engine: local, prompt: "{{ facts.text }} {{ tone.text }} so?"}
outputs: {"<b>answer": "{{ answer.text }}"}
"""
RUNS = f"/v1/flows/{quote(NAME, safe='')}/runs"
CONTRAST = """
(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = channels(color).map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const isSeen = (color) => color !== "none" && (channels(color)[3] ?? 1) > 0;
  const behind = (element) => {
    const box = element.closest("g")?.querySelector("rect");
    if (box) return getComputedStyle(box).fill;
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (isSeen(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.getClientRects().length || element.closest("title, desc, noscript, script")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [element.tagName === "text" ? style.fill : style.color, behind(element)].map(light);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.trim().slice(0, 40)]);
  }
  return found.sort((one, other) => one[0] - other[0]).slice(0, 3);
})()
"""
"""The texts with the least contrast to what is behind them."""


class Elements(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def flow_file(folder: Path) -> Path:
    path = folder / "flow.yaml"
    path.write_text(HOSTILE)
    return path


def some_work(server: Running) -> None:
    rows = [{"topic": "bees"}, {"topic": "wasps"}, {"topic": ANTS}]
    assert ask(server.address, "POST", RUNS, {"rows": rows}).status == 200


def test_texts_of_others_are_shown_and_never_run(tmp_path: Path) -> None:
    with running(tmp_path / "state", [flow_file(tmp_path)]) as server:
        some_work(server)
        heard = ask(server.address, "GET", "/")
        part = ask(server.address, "GET", "/live")
    page = Elements(heard.body)
    assert "img" not in page.tags
    assert page.tags.count("script") == 1
    assert page.tags.count("b") == Elements(part.body).tags.count("b") > 0, "the tiles' own"
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "style"]
    for text in (NAME, f"refused: {ANTS}", "<i>m", "<u>rows.jsonl", "<b>answer"):
        assert text in page.text, text
    assert "default-src 'none'" in heard.headers["content-security-policy"]
    assert "unsafe" not in heard.headers["content-security-policy"]
    assert part.headers["cache-control"] == "no-store"
    addresses = [value or "" for name, value in page.attributes if name in ("src", "href")]
    assert addresses
    assert all(one.startswith(("/", "#", "data:,")) for one in addresses), "nothing comes from another host"


def test_the_picture_has_the_counts_of_its_steps(tmp_path: Path) -> None:
    with running(tmp_path / "state", [flow_file(tmp_path)]) as server:
        some_work(server)
        some_work(server)
        text = " ".join(Elements(ask(server.address, "GET", "/live").body).text.split())
    assert "answer llm on engine:local" in text
    drawn = text.partition("answer llm on engine:local ")[2]
    assert drawn.startswith("running 0 waiting 0 executed 2 not made 2 ")


def test_with_keys_the_page_is_a_form_until_a_key_is_sent(tmp_path: Path) -> None:
    state = tmp_path / "state"
    key = added(state, "one")
    with running(state, [flow_file(tmp_path)]) as server:
        some = ask(server.address, "POST", RUNS, {"row": {"topic": "bees"}}, bearer(key))
        assert some.status == 200
        locked, opened = (ask(server.address, "GET", "/", None, one) for one in ({}, bearer(key)))
        assert ask(server.address, "GET", "/live").status == 401
        assert ask(server.address, "GET", "/live", None, bearer(key)).status == 200
        parts = [ask(server.address, "GET", path).status for path in ("/live.css", "/live.js")]
        assert ask(server.address, "POST", "/").status == 401
    assert (locked.status, opened.status, parts) == (200, 200, [200, 200])
    assert "curl -H" in locked.body
    for text in ("bees", "local", "alert(1)", "rows in flight"):
        assert text not in locked.body
    assert "rows in flight" in opened.body
    assert key not in opened.body


async def looks_right(tab: Tab, address: str) -> None:
    """Check the page at both sizes, in light and dark."""
    for size in (DESKTOP, PHONE):
        for is_dark in (False, True):
            await tab.open(address, size, is_dark=is_dark)
            await tab.until("document.getElementById('note').textContent !== ''")
            assert await tab.value("document.documentElement.scrollWidth") <= size[0]
            least = await tab.value(CONTRAST)
            assert least[0][0] >= 4.5, (size, is_dark, least)
    assert tab.complaints == []


@pytest.mark.slow
def test_a_browser_shows_it_and_keeps_it_fresh(tmp_path: Path) -> None:
    async def look(server: Running) -> None:
        async with browser_tab() as tab:
            await looks_right(tab, server.address)
            rows = "[...document.querySelectorAll('dt')].find((one) => one.textContent === 'rows ended')"
            await tab.value(f"window.kept = {rows}; window.kept.parentElement.dataset.before = 1")
            await asyncio.to_thread(some_work, server)
            await tab.until(f"{rows}.nextElementSibling.textContent.trim() === '6'")
            assert await tab.value(f"{rows} === window.kept"), "what stays is not made anew"
            await tab.value("document.getElementById('pause').click()")
            await asyncio.to_thread(some_work, server)
            assert await tab.value("document.getElementById('pause').getAttribute('aria-pressed')") == "true"
            await tab.value("document.getElementById('pause').click()")
            await tab.until(f"{rows}.nextElementSibling.textContent.trim() === '9'")
            assert tab.complaints == []

    with running(tmp_path / "state", [flow_file(tmp_path)]) as server:
        some_work(server)
        asyncio.run(look(server))


@pytest.mark.slow
def test_keyboards_and_screen_readers_find_their_way(tmp_path: Path) -> None:
    async def look(server: Running) -> None:
        async with browser_tab() as tab:
            await tab.open(server.address)
            nodes = await tab.accessible()
            roles = [role for role, _ in nodes]
            assert [roles.count(one) for one in ("banner", "main", "contentinfo", "status")] == [1, 1, 1, 1]
            assert all(
                name for role, name in nodes if role in ("region", "table", "button", "link", "image", "heading")
            )
            heads = await tab.value("[...document.querySelectorAll('h1, h2, h3')].map((one) => one.tagName).join(' ')")
            assert heads.startswith("H1 H2")
            assert "H1" not in heads[2:]
            without = "[...document.querySelectorAll('table')].filter((one) => !one.caption).length"
            assert await tab.value(without) == 0
            assert await tab.value("document.querySelectorAll('th:not([scope])').length") == 0
            seen = []
            for _ in range(4):
                await tab.press("Tab")
                seen.append(await tab.value("document.activeElement.textContent.trim() || document.activeElement.id"))
                assert await tab.value("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
            assert seen[:2] == ["Skip to the figures", "Pause"]

    with running(tmp_path / "state", [flow_file(tmp_path)]) as server:
        some_work(server)
        asyncio.run(look(server))


@pytest.mark.slow
def test_a_browser_asks_for_the_key_and_keeps_it_in_its_tab(tmp_path: Path) -> None:
    async def look(server: Running, key: str) -> None:
        async with browser_tab() as tab:
            await tab.open(server.address, PHONE)
            await tab.value("document.getElementById('key').focus()")
            await tab.send("Input.insertText", text="sk-sundog-wrong")
            await tab.press("Enter")
            await tab.until("document.getElementById('note').textContent === 'This key is not valid.'")
            await tab.value("document.getElementById('key').focus()")
            await tab.send("Input.insertText", text=key)
            await tab.press("Enter")
            await tab.until("document.querySelector('#live dl') !== null")
            assert await tab.value("document.getElementById('enter').hidden")
            assert await tab.value("location.search + document.cookie + JSON.stringify(localStorage)") == "{}"
            await tab.open(server.address, PHONE)
            await tab.until("document.querySelector('#live dl') !== null")
            await tab.value("document.getElementById('forget').click()")
            assert await tab.value("sessionStorage.length") == 0
            assert await tab.value("document.querySelector('#live dl')") is None

    key = added(tmp_path, "one")
    with running(tmp_path, engines=[EngineBlock("one", "null", {"model": "model-one"})]) as server:
        asyncio.run(look(server, key))


@pytest.mark.slow
def test_without_scripts_the_page_shows_the_moment(tmp_path: Path) -> None:
    async def look(server: Running) -> None:
        async with browser_tab(has_script=False) as tab:
            await tab.open(server.address, PHONE)
            text = await tab.value("document.body.innerText")
            assert "load the page again" in text
            assert "rows in flight" in text
            assert "Pause" not in text

    with running(tmp_path / "state", [flow_file(tmp_path)]) as server:
        some_work(server)
        asyncio.run(look(server))
