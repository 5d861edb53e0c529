"""The segment log beside the plain store: results and rows a second that one process writes, and restores elsewhere.

Each row has one result of about 250 bytes. Rows are written as a run writes them, `--in-flight` at once; the state at
a URL is one in a folder of this disk, where `--url` names no other. The two arms alternate; figures are medians.
Time and processor time of the whole process are told, since a second thread sends the segments.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from machine import save

from sundog.engines.base import Usage
from sundog.ir.row_ids import RowRef
from sundog.ir.values.normal_form import encode
from sundog.store.runs import RunList
from sundog.store.segments.cache import open_cache
from sundog.store.segments.storage import ObjectStorage
from sundog.store.store import Store
from sundog.store.writer import Asked

USAGE = Usage(num_prompt_tokens=400, num_output_tokens=40, num_cached_tokens=200)
COMMAND = b"segment log benchmark"
WORDS = Path(__file__).with_name("README.md").read_text().split()


@dataclass(frozen=True)
class Took:
    """The time that some work took."""

    wall_s: float
    cpu_s: float


def timed(work: Callable[[], object]) -> Took:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Took(time.perf_counter() - wall_s, time.process_time() - cpu_s)


async def write(store: Store, run_id: str, num_rows: int, in_flight: int, bodies: list[bytes]) -> None:
    store.open_writer()
    numbers = iter(range(num_rows))

    async def rows() -> None:
        for number in numbers:
            await store.put(os.urandom(32), run_id, "triage", bodies[number % len(bodies)], USAGE, call_s=0.5)
            body = bodies[number % len(bodies)]
            await store.put_row(run_id, RowRef("", (number,)), "done", body, (Asked("triage", 400, 40),))

    await asyncio.gather(*(rows() for _ in range(in_flight)))
    store.close_writer()


def run_in(folder: Path, num_rows: int, in_flight: int, bodies: list[bytes]) -> Took:
    with closing(Store(folder)) as store:
        runs = RunList(store, folder)

        def work() -> None:
            with runs.lock(COMMAND):
                record = runs.start(COMMAND, b"identity", "flow", "out.csv", num_rows, is_fresh=False)
                asyncio.run(write(store, record.run_id, num_rows, in_flight, bodies))

        return timed(work)


def repetition(folder: Path, url: str | None, num_rows: int, in_flight: int) -> dict[str, Any]:
    bodies = [encode({"text": " ".join(random.choices(WORDS, k=30))}) for _ in range(4096)]
    storage = ObjectStorage(url or f"file://{folder}/shared")
    state = open_cache(storage, folder / "one")
    state.catch_up()
    plain = run_in(folder / "plain", num_rows, in_flight, bodies)
    logged = run_in(state.folder, num_rows, in_flight, bodies)
    elsewhere = open_cache(storage, folder / "elsewhere")
    restored = timed(elsewhere.catch_up)
    with closing(Store(elsewhere.folder)) as store:
        ((num_restored,),) = store.select("select count(*) from rows", ())
        assert num_restored == num_rows, "a row is missing"
    objects = [] if url else [path.stat().st_size for path in (folder / "shared" / "log").rglob("*") if path.is_file()]
    return {"plain": plain, "logged": logged, "restored": restored, "segments": len(objects), "bytes": sum(objects)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--in-flight", type=int, default=2_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--url", help="keep the state there, in place of a folder of this disk")
    parser.add_argument("--save", help="the name of a file in results, without its end")
    asked = parser.parse_args()
    found = []
    for _ in range(asked.repetitions):
        with TemporaryDirectory() as folder:
            found.append(repetition(Path(folder), asked.url, asked.rows, asked.in_flight))
    figures: dict[str, Any] = {"rows": asked.rows, "in_flight": asked.in_flight, "repetitions": asked.repetitions}
    for arm in ("plain", "logged", "restored"):
        wall_s, cpu_s = (median(getattr(one[arm], name) for one in found) for name in ("wall_s", "cpu_s"))
        # A row is two records: its result and its end.
        figures[arm] = {
            "wall_s": round(wall_s, 2),
            "cpu_s": round(cpu_s, 2),
            "results_per_s": round(asked.rows / wall_s),
            "records_per_s": round(2 * asked.rows / wall_s),
        }
        print(f"{arm:9} {figures[arm]}")
    figures["segments"], figures["bytes_per_row"] = found[0]["segments"], round(found[0]["bytes"] / asked.rows)
    print(f"segments  {figures['segments']}, {figures['bytes_per_row']} bytes a row")
    if asked.save:
        save(asked.save, figures)


if __name__ == "__main__":
    main()
