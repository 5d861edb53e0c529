"""A server that is killed under load while a key may spend no more than a limit: what its engine was asked for stays
within the limit, and what is counted is that, but for the calls in flight at each kill."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sundog.ledger.charges import Charge
from sundog.ledger.ledger import SpendingScope
from tests.e2e.processes import finish, read_until, start
from tests.e2e.test_limits_killed import PaidServer
from tests.serve.asking import ask
from tests.serve.keyed import added, kept_keys

pytestmark = pytest.mark.slow

NUM_SENDERS = 6
MAX_TOKENS = 30
INPUT_NANO_USD, OUTPUT_NANO_USD = 2_000, 10_000
"""The price of a token."""
MOST_NANO_USD = 1_000 * INPUT_NANO_USD + MAX_TOKENS * OUTPUT_NANO_USD
"""No call here costs more: its prompt has fewer than 1,000 bytes with all that is around it."""
MAX_USD = 0.03
ENGINES = """
engines:
  served:
    kind: openai
    base_url: "{origin}/v1"
    model: m
    price: {{input_usd_per_mtok: 2.0, output_usd_per_mtok: 10.0}}
"""
PATH = "/v1/chat/completions"


class PricedServer(PaidServer):
    """It counts what it has charged in billionths of a dollar."""

    def __init__(self) -> None:
        super().__init__()
        self.nano_usd = 0
        self._lock = threading.Lock()

    def charge(self, body: Mapping[str, Any]) -> dict[str, int]:
        with self._lock:
            usage = super().charge(body)
            self.nano_usd += usage["prompt_tokens"] * INPUT_NANO_USD + usage["completion_tokens"] * OUTPUT_NANO_USD
        return usage


class Gateway:
    """`sundog serve` in a process, at the same address each time it is started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self.start()

    def start(self) -> None:
        words = ("--engines", "engines.yaml", "--port", str(self.port), "--log-level", "error")
        self.process = start(self._folder, "serve", *words)
        read_until(self.process, "serving flows: no flows")

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return finish(self.process)[0]


def serving(folder: Path, engine: PricedServer) -> Gateway:
    (folder / "engines.yaml").write_text(ENGINES.format(origin=engine.origin))
    return Gateway(folder)


@contextmanager
def load(gateway: Gateway, key: dict[str, str], heard: Counter[int]) -> Iterator[threading.Event]:
    """Have senders ask, each again as soon as it is answered, until the context ends or a limit says no; what is set
    then says so. A server that is not there is asked again."""
    is_over, is_refused = threading.Event(), threading.Event()

    def send(sender: int) -> None:
        number = 0
        while not is_over.is_set() and not is_refused.is_set():
            number += 1
            words = f"sender {sender} request {number} {id(is_over)} " + "word " * (number % 40)
            body = {"model": "m", "messages": [{"role": "user", "content": words}], "max_tokens": MAX_TOKENS}
            try:
                status = ask(gateway.address, "POST", PATH, body, key).status
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                is_over.wait(0.02)
                continue
            heard[status] += 1
            if status == 429:
                is_refused.set()

    with ThreadPoolExecutor(NUM_SENDERS) as threads:
        sent = [threads.submit(send, sender) for sender in range(NUM_SENDERS)]
        try:
            yield is_refused
        finally:
            is_over.set()
    for one in sent:
        one.result()


def spent(folder: Path) -> Charge:
    with kept_keys(folder / ".sundog") as keys:
        (record,) = keys.all()
        return keys.spent(SpendingScope("key", record.key_id))


def test_the_limit_of_a_key_holds_whatever_is_killed(tmp_path: Path) -> None:
    limit = round(MAX_USD * 10**9)
    key = {"x-api-key": added(tmp_path / ".sundog", "one", max_usd=MAX_USD)}
    heard: Counter[int] = Counter()
    with PricedServer() as engine, serving(tmp_path, engine) as gateway:
        engine.shut_gate()
        for num_more in (5, 11, 3, 8):
            with load(gateway, key, heard):
                num_before = len(engine.asked)
                engine.open_for_next(num_more)
                # The calls that were let through are answered, and others are in flight behind them.
                engine.wait_for(num_before + num_more + 1)
                assert gateway.end(signal.SIGKILL) == -signal.SIGKILL
                engine.open_gate()
            assert engine.nano_usd <= limit
            engine.shut_gate()
            gateway.start()
        num_lost = 4 * NUM_SENDERS
        engine.open_gate()
        with load(gateway, key, heard) as is_refused:
            assert is_refused.wait(120), heard
        assert heard.keys() == {200, 429}, heard
        assert engine.nano_usd <= limit, "also with the calls that nobody has heard the end of"
        assert gateway.end(signal.SIGTERM) == 0
        whole = spent(tmp_path).nano_usd
        assert engine.nano_usd <= whole <= min(limit, engine.nano_usd + num_lost * MOST_NANO_USD)
        assert whole > limit - MOST_NANO_USD, "nothing was given up that still fitted"
        gateway.start()
        body = {"model": "m", "messages": [{"role": "user", "content": "again " * 100}], "max_tokens": 100}
        num_asked = len(engine.asked)
        assert ask(gateway.address, "POST", PATH, body, key).status == 429, "a restart forgets nothing"
        assert len(engine.asked) == num_asked
        assert gateway.end(signal.SIGTERM) == 0
    assert spent(tmp_path).nano_usd == whole
