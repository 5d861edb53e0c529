"""The servers of one engine, dealt out to the cells of a run while both come and go.

Owns which cell uses which servers. Where there are enough, each server belongs to one cell, so that the cell's books of
it are exact; where there are fewer than cells, each cell has one, and those of one server share its places. As few
servers as possible change hands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerHand:
    """The servers that one cell uses from now on."""

    urls: tuple[str, ...] = ()
    #: Cells that use each of them, at most.
    num_sharing: int = 1
    #: Servers that it has had and that are gone: what runs there fails. Of others it lets end what runs.
    gone: tuple[str, ...] = ()


def dealt(urls: Collection[str], cells: Collection[str], before: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Return the servers of each cell, in order of the urls. `before`: those that cells have had."""
    if not urls or not cells:
        return {cell: [] for cell in cells}
    if len(urls) < len(cells):
        kept = {cell: next((url for url in before.get(cell, ()) if url in urls), None) for cell in cells}
        chosen = _balanced(kept, urls)
        return {cell: [chosen[cell]] for cell in cells}
    owners = {url: next((cell for cell in cells if url in before.get(cell, ())), None) for url in urls}
    owned = _balanced(owners, cells)
    return {cell: [url for url in urls if owned[url] == cell] for cell in cells}


def _balanced(kept: Mapping[str, str | None], holders: Collection[str]) -> dict[str, str]:
    """Return the holder of each thing, so that no holder has two more than another one: as `kept` where that allows."""
    found: dict[str, str] = {}
    held: dict[str, list[str]] = {holder: [] for holder in holders}
    for thing, holder in kept.items():
        if holder is not None:
            held[holder].append(thing)
    for thing, holder in kept.items():
        if holder is None:
            held[min(held, key=lambda one: len(held[one]))].append(thing)
    while True:
        most, least = (pick(held, key=lambda one: len(held[one])) for pick in (max, min))
        if len(held[most]) - len(held[least]) < 2:
            break
        held[least].append(held[most].pop())
    for holder, things in held.items():
        found.update(dict.fromkeys(things, holder))
    return found


class HandBook:
    """One instance deals out the servers of one engine. Words about unknown cells and servers change nothing, and what
    is said twice is said once."""

    def __init__(self) -> None:
        self._urls: dict[str, None] = {}
        self._cells: dict[str, ServerHand] = {}
        self._had: dict[str, set[str]] = {}
        self._gone: set[str] = set()

    def cell_came(self, cell: str) -> dict[str, ServerHand]:
        """Return the hands that change; so do the other methods."""
        self._cells.setdefault(cell, ServerHand())
        self._had.setdefault(cell, set())
        return self._deal()

    def cell_went(self, cell: str) -> dict[str, ServerHand]:
        self._cells.pop(cell, None)
        self._had.pop(cell, None)
        return self._deal()

    def server_came(self, url: str) -> dict[str, ServerHand]:
        self._urls[url] = None
        self._gone.discard(url)
        return self._deal()

    def server_leaves(self, url: str) -> dict[str, ServerHand]:
        self._urls.pop(url, None)
        return self._deal()

    def server_went(self, url: str) -> dict[str, ServerHand]:
        self._urls.pop(url, None)
        self._gone.add(url)
        return self._deal()

    def _deal(self) -> dict[str, ServerHand]:
        changed: dict[str, ServerHand] = {}
        shares = dealt(self._urls, self._cells, {cell: hand.urls for cell, hand in self._cells.items()})
        num_sharing = -(-len(self._cells) // len(self._urls)) if self._urls else 1
        for cell, urls in shares.items():
            gone = tuple(sorted(self._had[cell] & self._gone))
            hand = ServerHand(tuple(urls), num_sharing, gone)
            if hand != self._cells[cell]:
                self._cells[cell] = changed[cell] = hand
                self._had[cell].update(urls)
        return changed
