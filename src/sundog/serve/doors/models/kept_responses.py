"""The answers of `/v1/responses` that later requests may go on from.

Owns how many are kept: they live in memory, the oldest go first, and none outlives the process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from sundog.serve.doors.models.exchange import Exchange
from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.responses.items import items_of
from sundog.serve.wire.responses.stream import ResponsesStream

MAX_BYTES = 128 * 2**20


class KeptResponses:
    """This class keeps answers with the items of their conversations, as JSON of at most `max_bytes`."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        #: By the ids of the key that asked and of the answer: that, and the items that a request after it begins with.
        self._kept: OrderedDict[tuple[str, str], tuple[bytes, bytes]] = OrderedDict()

    def earlier(self, owner: str, body: Any) -> Sequence[Mapping[str, Any]]:
        """Return the items that come before the input of a request; Refusal where it follows an unknown answer."""
        previous = body.get("previous_response_id") if isinstance(body, Mapping) else None
        if previous is None:
            return ()
        kept = self._kept.get((owner, previous)) if isinstance(previous, str) else None
        if kept is None:
            raise _unknown(str(previous), "previous_response_id")
        items: list[dict[str, Any]] = from_json(kept[1])
        return items

    def answer(self, owner: str, id: str) -> Any:
        """Return a kept answer; Refusal where there is none."""
        kept = self._kept.get((owner, id))
        if kept is None:
            raise _unknown(id, "id")
        return from_json(kept[0])

    def keep(
        self, owner: str, body: Mapping[str, Any], exchange: Exchange, earlier: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep the answer of an exchange, unless its client wants none kept."""
        answer = exchange.answer
        if isinstance(exchange.stream, ResponsesStream) and exchange.is_streamed:
            answer = exchange.stream.answer
        if answer is None or body.get("store") is False:
            return
        kept = to_json(answer), to_json(items_of(body, answer, earlier))
        self._kept[owner, exchange.answer_id] = kept
        self._num_bytes += len(kept[0]) + len(kept[1])
        while self._num_bytes > self._max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._num_bytes -= len(gone[0]) + len(gone[1])


def _unknown(id: str, param: str) -> Refusal:
    what = f"{param}: there is no answer '{id}' here, or it is kept no more"
    return Refusal(404, what, param=param, code="response_not_found", is_final=True)
