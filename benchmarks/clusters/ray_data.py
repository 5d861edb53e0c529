"""The workload on Ray Data: `python -m clusters.ray_data ARM FOLDER ADDRESS ORIGIN NUM_PLACES` is one run, as a process
of its own.

It reads rows.jsonl of a folder and writes rows to FOLDER/out. Ray Data's checkpoint notes what is written, so that a
command that is repeated goes on from there.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from clusters.endpoint import MODEL

NUM_ACTORS = 3
NUM_BLOCKS = 48
"""A block is what an actor is given and what is done again: as many as make the last ones no long tail."""
ROWS_OF_A_BATCH = 16
BATCHES_OF_AN_ACTOR = 4
"""Ray Data runs so many batches of a block at once where the function is a coroutine (its default)."""

ROWS_OF_A_STAGES_BATCH = 4
"""As few as let an actor of the stage have its share of the places in flight out of one block."""

MAP_BATCHES = "map_batches"
MAP_BATCHES_MEMO = "map_batches, each actor with a memo"
HTTP_STAGE = "ray.data.llm's HTTP stage"
ARMS = (MAP_BATCHES, MAP_BATCHES_MEMO, HTTP_STAGE)


def notes_prompt(row: dict[str, Any]) -> str:
    return f"{row['manual']}\nWrite notes."


def topic_prompt(row: dict[str, Any]) -> str:
    return f"The topic of: {row['text']}"


def triage_prompt(row: dict[str, Any]) -> str:
    return f"{row['notes']} Triage: {row['text']}"


def payload(prompt: str) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "max_tokens": 20}


class Ask:
    """A careful user writes this: one session an actor, with as many connections as it has places, and the two steps
    that need nothing of each other at once."""

    def __init__(self, url: str, num_places: int, has_memo: bool) -> None:
        self._url = url
        self._num_places = num_places
        self._session: Any = None
        self._memo: dict[str, asyncio.Task[str]] | None = {} if has_memo else None

    async def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        if self._session is None:  # it belongs to the loop that runs this
            import aiohttp

            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=self._num_places))
        names = list(batch)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        answers = await asyncio.gather(*(self._row(row) for row in rows))
        return {
            "id": [int(row["id"]) for row in rows],
            "topic": [topic for topic, _ in answers],
            "triage": [triage for _, triage in answers],
        }

    async def _row(self, row: dict[str, Any]) -> tuple[str, str]:
        notes, topic = await asyncio.gather(self._answer(notes_prompt(row)), self._answer(topic_prompt(row)))
        return topic, await self._answer(triage_prompt({**row, "notes": notes}))

    def _answer(self, prompt: str) -> Awaitable[str]:
        if self._memo is None:
            return self._ask(prompt)
        if prompt not in self._memo:
            self._memo[prompt] = asyncio.ensure_future(self._ask(prompt))
        return self._memo[prompt]

    async def _ask(self, prompt: str) -> str:
        async with self._session.post(self._url, json=payload(prompt)) as response:
            response.raise_for_status()
            answer: str = (await response.json())["choices"][0]["message"]["content"]
            return answer


def with_map_batches(rows: Any, url: str, num_places: int, *, has_memo: bool) -> Any:
    from ray.data import ActorPoolStrategy

    return rows.map_batches(
        Ask,
        fn_constructor_args=(url, num_places // NUM_ACTORS, has_memo),
        compute=ActorPoolStrategy(size=NUM_ACTORS, max_concurrent_calls_per_actor=2),
        batch_size=ROWS_OF_A_BATCH,
        num_cpus=1,
    )


def with_http_stage(rows: Any, url: str) -> Any:
    """One processor a step. An actor of the stage asks for the rows of a batch one after another."""
    from ray.data.llm import HttpRequestProcessorConfig, build_processor

    config = HttpRequestProcessorConfig(
        url=url,
        batch_size=ROWS_OF_A_STAGES_BATCH,
        concurrency=(NUM_ACTORS, NUM_ACTORS),
        max_retries=3,
        http_request_stage={"num_cpus": 0.25},
    )
    for name, prompt in (("notes", notes_prompt), ("topic", topic_prompt), ("triage", triage_prompt)):
        rows = build_processor(config, preprocess=_asks(prompt), postprocess=_takes(name))(rows)
    return rows.select_columns(["id", "topic", "triage"])


def _asks(prompt: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"payload": payload(prompt(row))}


def _takes(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def take(row: dict[str, Any]) -> dict[str, Any]:
        answer = row["http_response"]["choices"][0]["message"]["content"]
        kept: dict[str, Any] = {
            key: row[key] for key in ("id", "manual", "text", "notes", "topic", "triage") if key in row
        }
        return {**kept, name: answer}

    return take


def batches_of_a_stage(num_places: int) -> int:
    """How many requests an actor of one of the three steps has in flight, so that all of them have `num_places`."""
    return num_places // (3 * NUM_ACTORS)


def main(arm: str, folder: Path, address: str, origin: str, num_places: int) -> None:
    import ray
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}})
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig("id", str(folder / "checkpoint"), delete_checkpoint_on_success=False)
    rows = ray.data.read_json(str(folder / "rows.jsonl"), override_num_blocks=NUM_BLOCKS)
    url = f"{origin}/v1/chat/completions"
    if arm == HTTP_STAGE:
        done = with_http_stage(rows, url)
    else:
        done = with_map_batches(rows, url, num_places, has_memo=arm == MAP_BATCHES_MEMO)
    done.write_json(str(folder / "out"))


def start_ray_data(arm: str, folder: Path, address: str, origin: str, num_places: int) -> subprocess.Popen[str]:
    """`main` in a process of its own."""
    benchmarks = str(Path(__file__).resolve().parents[1])
    num_batches = batches_of_a_stage(num_places) if arm == HTTP_STAGE else BATCHES_OF_AN_ACTOR
    environment = {
        **os.environ,
        "PYTHONPATH": benchmarks,
        "RAY_DATA_DEFAULT_ASYNC_BATCH_UDF_MAX_CONCURRENCY": str(num_batches),
    }
    command = [sys.executable, "-m", "clusters.ray_data", arm, str(folder), address, origin, str(num_places)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]))
