"""A server that counts what it is asked for each row, and keeps everybody waiting while its gate is shut."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from threading import Condition

from tests.loopback_server import LoopbackServer, QuietHandler

WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    row: int
    key: str | None


class CountingServer(LoopbackServer):
    """`asked`: every request, when it came. `retry_after_s`: what it puts all of them off for with a 429, None to
    answer. A test opens and shuts the gate, and kills at a count, not at a time."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.asked: list[Asked] = []
        self.retry_after_s: int | None = None
        self._is_open = is_open
        self._num_to_answer = 0
        self._changed = Condition()

    @property
    def by_row(self) -> Counter[int]:
        return Counter(one.row for one in self.asked)

    def open_gate(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def shut_gate(self) -> None:
        with self._changed:
            self._is_open = False

    def open_for_next(self, num_more: int) -> None:
        """Let the next `num_more` requests pass the shut gate; those that wait at it stay there."""
        with self._changed:
            self._num_to_answer = len(self.asked) + num_more

    def wait_for(self, num_asked: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= num_asked, WAIT_S), f"only {len(self.asked)} came"

    def receive(self, asked: Asked) -> None:
        with self._changed:
            self.asked.append(asked)
            self._changed.notify_all()
            is_early = len(self.asked) <= self._num_to_answer
            assert is_early or self._changed.wait_for(lambda: self._is_open, WAIT_S), "the gate stayed shut"

    def handler(self) -> type[_Handler]:
        return _Handler

    def __exit__(self, *_: object) -> None:
        self.open_gate()
        super().__exit__()


class _Handler(QuietHandler):
    owner: CountingServer

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        row = int(self.path.rpartition("/")[2])
        self.owner.receive(Asked(self.command, row, self.headers.get("idempotency-key")))
        body = json.dumps({"row": row}).encode()
        put_off_s = self.owner.retry_after_s
        try:
            self.send_response(200 if put_off_s is None else 429)
            if put_off_s is not None:
                self.send_header("Retry-After", str(put_off_s))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client was killed

    do_GET = do_POST = _answer
