"""The client of a server of sundog: rows go to its flows, and their outputs come back.

Owns how a request is sent again so that no row is worked on twice. Never runs a flow itself.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from sundog.engines.openai.protocol.events import EventSplitter
from sundog.errors import ConfigError, InputError, RunError
from sundog.transport.client import Client, Request
from sundog.transport.faults import BadAddress, TransportFault
from sundog.transport.retry_after import retry_after_s

DEFAULT_ADDRESS = "http://127.0.0.1:8321"
PATIENCE_S = 60.0
LONG_POLL_S = 20
"""One request waits so long for the end of a run; then the next one does."""
ANSWER_WITHIN_S = LONG_POLL_S + 40.0
SILENCE_S = 60.0
"""A stream says something every 15 s."""
MAX_ANSWER_BYTES = 256 * 2**20
PAUSE_S = 0.5
HAS_NO_ROOM = frozenset({429, 503})
T = TypeVar("T")


class RowFailed(RunError):
    """Raised for a row that failed at the server; caught by whoever uses the client. `node` is the step that failed."""

    def __init__(self, flow: str, index: int, error: Mapping[str, Any]) -> None:
        self.node = str(error.get("node"))
        where = f"flow '{flow}', row {index}, step '{self.node}'"
        super().__init__(str(error.get("cause")), where=where, hint=error.get("hint"))


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """A row that has ended at the server."""

    flow: str
    #: Its place among the rows that were sent, from 0.
    index: int
    #: done, failed, or dropped by a filter.
    state: str
    #: None but for a row that is done.
    output: dict[str, Any] | None = None
    #: None but for a row that failed: the step (`node`) and the `cause`.
    error: dict[str, Any] | None = None

    def value(self) -> dict[str, Any] | None:
        """Return the output, None for a row that a filter dropped; RowFailed for a failed one."""
        if self.error is not None:
            raise RowFailed(self.flow, self.index, self.error)
        return self.output


class RequestTerms(TypedDict, total=False):
    """These terms go with the rows of one request."""

    #: Seconds after which nobody wants the answer.
    deadline_s: float | None
    #: Smaller is sooner.
    priority: int
    #: Dollars that all rows together may cost.
    max_usd: float | None
    #: Tokens of prompts and answers that all rows together may take.
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Rows on their way to a server. The key is the same each time they are sent, so that they are accepted once."""

    flow: str
    body: Mapping[str, Any]
    key: str

    @property
    def path(self) -> str:
        return f"/v1/flows/{quote(self.flow, safe='')}/runs"


class FlowClient:
    """This class sends rows to the flows of one server: `sundog.Client`. Threads may share it.

    `api_key`: what the server's owner gave. `patience_s`: how long a server may be absent, or have no room, before an
    error is raised; until then each request is sent again, and no row is worked on twice.
    """

    def __init__(
        self, address: str = DEFAULT_ADDRESS, *, api_key: str | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self._exchange = _Exchange(address.rstrip("/"), api_key, patience_s)
        self._loop = _LoopThread()

    def run(self, flow: str, row: Mapping[str, Any], **terms: Unpack[RequestTerms]) -> dict[str, Any] | None:
        """Return the output of a row, None where a filter dropped it; RowFailed where it failed."""
        body = {"rows": [row], **terms}
        return self._submitted(flow, body).wait()[0].value()

    def run_rows(
        self, flow: str, rows: Sequence[Mapping[str, Any]], **terms: Unpack[RequestTerms]
    ) -> list[AnsweredRow]:
        """Return the rows, in their order, when all have ended."""
        return self._submitted(flow, {"rows": list(rows), **terms}).wait()

    def stream(
        self, flow: str, rows: Sequence[Mapping[str, Any]], **terms: Unpack[RequestTerms]
    ) -> Iterator[AnsweredRow]:
        """Yield each row as it ends, once."""
        body = {"rows": list(rows), **terms, "stream": True}
        coming = self._exchange.rows(_request(flow, body))
        try:
            while (row := self._loop.call(_next_of(coming))) is not None:
                yield row
        finally:
            self._loop.call(_closed(coming))

    def submit(self, flow: str, rows: Sequence[Mapping[str, Any]], **terms: Unpack[RequestTerms]) -> SubmittedRun:
        """Return once the rows are accepted: they are worked on though nobody waits."""
        run = self._submitted(flow, {"rows": list(rows), **terms})
        run.accept()
        return run

    def close(self) -> None:
        """Close the connections."""
        self._loop.call(self._exchange.close())
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _submitted(self, flow: str, body: Mapping[str, Any]) -> SubmittedRun:
        return SubmittedRun(_request(flow, body), self._exchange, self._loop)


class SubmittedRun:
    """This class stands for rows that were submitted; only a FlowClient makes one."""

    def __init__(self, request: RunRequest, exchange: _Exchange, loop: _LoopThread) -> None:
        self._request = request
        self._exchange = exchange
        self._loop = loop
        #: The name that the server gave the run, "" before it has accepted it.
        self.id = ""

    def accept(self) -> None:
        """Return once the server has accepted the rows."""
        self.id = self._loop.call(self._exchange.posted(self._request, 0))["id"]

    def wait(self) -> list[AnsweredRow]:
        """Return the rows, in their order, when all have ended."""
        return self._loop.call(self._exchange.ended(self._request))

    def status(self) -> str:
        """Return how the run is: running, completed or cancelled."""
        return str(self._loop.call(self._exchange.asked("GET", self._path))["status"])

    def cancel(self) -> None:
        """End the rows that have not ended."""
        self._loop.call(self._exchange.asked("DELETE", self._path))

    @property
    def _path(self) -> str:
        return f"{self._request.path}/{self.id}"


class _Exchange:
    """This class asks one server, and asks again where no answer came."""

    def __init__(self, address: str, api_key: str | None, patience_s: float) -> None:
        self._address = address
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._patience_s = patience_s
        self._client = Client()

    async def ended(self, sent: RunRequest) -> list[AnsweredRow]:
        while (run := await self.posted(sent, LONG_POLL_S))["status"] == "running":
            continue
        return [_answered(sent.flow, row) for row in run["rows"]]

    async def posted(self, sent: RunRequest, wait_s: int) -> dict[str, Any]:
        """Return the run of a request, which is accepted once though it may be sent often; a run that has not ended is
        waited for."""
        headers = {"Idempotency-Key": sent.key, "Prefer": f"respond-async, wait={wait_s}"}
        return await self.asked("POST", sent.path, headers, sent.body)

    async def asked(
        self, method: str, path: str, headers: Mapping[str, str] = {}, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the body of an answer, which is asked for as long as patience lasts."""
        request, patience = self._made(method, path, headers, body), _Patience(self._patience_s)
        while True:
            try:
                answer = await self._client.fetch(request, max_bytes=MAX_ANSWER_BYTES, within_s=ANSWER_WITHIN_S)
            except TransportFault as fault:
                await patience.wait(self._unreachable(fault), PAUSE_S)
                continue
            if answer.status < 400:
                found: dict[str, Any] = json.loads(answer.body)
                return found
            await patience.wait_if_no_room(answer.status, answer.headers, answer.body, request.url)

    async def rows(self, sent: RunRequest) -> AsyncIterator[AnsweredRow]:
        """Yield each row as it ends; where a stream breaks off, another begins, of which known rows are left out."""
        request = self._made("POST", sent.path, {"Idempotency-Key": sent.key}, sent.body)
        patience, seen = _Patience(self._patience_s), set[int]()
        error: Exception
        while True:
            try:
                async with self._client.open(request, silence_s=SILENCE_S) as answer:
                    if answer.status >= 400:
                        body = await answer.read(MAX_ANSWER_BYTES)
                        await patience.wait_if_no_room(answer.status, answer.headers, body, request.url)
                        continue
                    async for told in _told(answer):
                        patience.begin()
                        if told.get("object") == "flow.run":
                            return
                        if "state" in told and told["index"] not in seen:
                            seen.add(told["index"])
                            yield _answered(sent.flow, told)
                error = RunError("the stream ended before the run did", where=request.url)
            except TransportFault as fault:
                error = self._unreachable(fault)
            await patience.wait(error, PAUSE_S)

    async def close(self) -> None:
        await self._client.close()

    def _made(self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> Request:
        sent = None if body is None else json.dumps(body).encode()
        return Request(method, self._address + path, {**self._headers, **headers}, sent)

    def _unreachable(self, fault: TransportFault) -> Exception:
        if isinstance(fault, BadAddress):
            return ConfigError(f"the address of the server is none: {fault.what}", hint=f"as in {DEFAULT_ADDRESS}")
        hint = fault.hint or "is it running? sundog serve FLOW"
        return RunError(f"the server does not answer: {fault.what}", where=self._address, hint=hint)


class _Patience:
    """This class decides how long a server is asked again. It begins anew with each sign of life."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self.begin()

    def begin(self) -> None:
        self._until = time.monotonic() + self._patience_s

    async def wait(self, error: Exception, pause_s: float) -> None:
        """Return when it is time to ask again; raise `error` where that would be too late, or is of no use."""
        if isinstance(error, ConfigError) or time.monotonic() + pause_s > self._until:
            raise error
        await asyncio.sleep(pause_s)

    async def wait_if_no_room(self, status: int, headers: Mapping[str, str], body: bytes, url: str) -> None:
        """Return when it is time to ask a server again that had no room; raise what any other one has refused with."""
        error = _refusal(status, body, url)
        if status not in HAS_NO_ROOM:
            raise error
        told = retry_after_s({name.lower(): value for name, value in headers.items()}, time.time())
        await self.wait(error, PAUSE_S if told is None else told)


class _LoopThread:
    """This class runs coroutines in a thread of its own, whether or not the caller has a loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sundog-client", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine gives, which runs in the thread."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Nothing goes on for a caller that is interrupted; where the work itself failed, this does nothing.
            future.cancel()
            raise

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _request(flow: str, body: Mapping[str, Any]) -> RunRequest:
    return RunRequest(flow, {name: value for name, value in body.items() if value is not None}, uuid.uuid4().hex)


def _answered(flow: str, row: Mapping[str, Any]) -> AnsweredRow:
    return AnsweredRow(flow, row["index"], row["state"], row.get("output"), row.get("error"))


async def _told(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    splitter = EventSplitter()
    async for piece in pieces:
        for data in splitter.feed(piece):
            yield json.loads(data)


async def _next_of(coming: AsyncIterator[AnsweredRow]) -> AnsweredRow | None:
    return await anext(coming, None)


async def _closed(coming: AsyncIterator[AnsweredRow]) -> None:
    await coming.aclose()  # type: ignore[attr-defined]  # it is an asynchronous generator


def _refusal(status: int, body: bytes, url: str) -> Exception:
    """Return the error that a server has refused a request with."""
    try:
        told = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        told = f"the server answered with status {status}"
    is_users = 400 <= status < 500 and status not in HAS_NO_ROOM
    return InputError(told, where=url) if is_users else RunError(told, where=url)
