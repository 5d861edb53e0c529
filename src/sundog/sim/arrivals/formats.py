"""The forms of traces that can be read: BurstGPT, Azure LLM 2023, Mooncake, and steps of SWE-agent.

Owns the meaning of their columns. Never opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from sundog.sim.arrivals.traced import BrokenRecord, RawProgram, RecordFormat, TracedCall, number_of, tokens_of

Records = Iterator[tuple[int, dict[str, object]]]
MOONCAKE_BLOCK_TOKENS = 512
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _burst_gpt(records: Records) -> Iterator[RawProgram]:
    for line, record in records:
        num_output_tokens = tokens_of(record, "Response tokens")
        call = TracedCall(tokens_of(record, "Request tokens", 1), num_output_tokens)
        # Its authors write 0 for a request that failed.
        yield RawProgram(number_of(record, "Timestamp"), (call,) if num_output_tokens else (), line)


def _azure(records: Records) -> Iterator[RawProgram]:
    for line, record in records:
        call = TracedCall(tokens_of(record, "ContextTokens", 1), tokens_of(record, "GeneratedTokens", 1))
        yield RawProgram(_moment(record["TIMESTAMP"]), (call,), line)


def _moment(text: object) -> float:
    try:
        moment = datetime.fromisoformat(str(text))
        return ((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - EPOCH).total_seconds()
    except (ValueError, OverflowError) as error:
        raise BrokenRecord(f"'TIMESTAMP' is no date with a time: {str(text)[:60]!r}") from error


def _mooncake(records: Records) -> Iterator[RawProgram]:
    for line, record in records:
        num_prompt_tokens = tokens_of(record, "input_length", 1)
        ids = record.get("hash_ids", [])
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise BrokenRecord("'hash_ids' is no list of whole numbers")
        # The last id may stand for a block that is not full.
        full = tuple(ids[: num_prompt_tokens // MOONCAKE_BLOCK_TOKENS])
        call = TracedCall(num_prompt_tokens, tokens_of(record, "output_length", 1), full)
        yield RawProgram(number_of(record, "timestamp") / 1e3, (call,), line)


def _swe_agent(records: Records) -> Iterator[RawProgram]:
    """Yield a program for each run of lines with one batch and instance. Batches were measured one after the other on
    the same machine, so that their times do not belong together, and none is told."""
    program, calls, begin, last_step = None, list[TracedCall](), 0, 0.0
    for line, record in records:
        name, step = (record.get("batch"), record["instance_id"]), number_of(record, "step")
        if name != program:
            if calls:
                yield _program(calls, begin)
            program, calls, begin, last_step = name, [], line, 0.0
        if step < last_step:
            raise BrokenRecord(f"step {step:g} of '{name[1]}' after its step {last_step:g}; a program's steps ascend")
        last_step = step
        tool_s = None if record["tool_s"] == "" else number_of(record, "tool_s")
        if record["input_tokens"] == "" and record["output_tokens"] == "":
            continue  # The call failed and was made again.
        calls.append(
            TracedCall(tokens_of(record, "input_tokens", 1), tokens_of(record, "output_tokens", 1), (), tool_s)
        )
    if calls:
        yield _program(calls, begin)


def _program(calls: list[TracedCall], line: int) -> RawProgram:
    """Return a program; nothing waits for the tool of its last call."""
    return RawProgram(None, (*calls[:-1], replace(calls[-1], tool_s=None)), line)


BURST_GPT = RecordFormat("BurstGPT", None, frozenset({"Timestamp", "Request tokens", "Response tokens"}), _burst_gpt)
"""https://github.com/HPMLL/BurstGPT: Timestamp in seconds, Model, Request tokens, Response tokens, Total tokens, Log
Type, in later releases also Session ID and Elapsed time. Requests that failed have no response tokens, and are left
out."""
AZURE = RecordFormat("Azure LLM", None, frozenset({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}), _azure)
"""https://github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023: a request a line."""
MOONCAKE = RecordFormat(
    "Mooncake", MOONCAKE_BLOCK_TOKENS, frozenset({"timestamp", "input_length", "output_length"}), _mooncake
)
"""https://github.com/kvcache-ai/Mooncake, FAST25-release: timestamp in milliseconds, lengths in tokens, and a hash id
for each block of 512 tokens, equal where all text up to its end is."""
SWE_AGENT = RecordFormat(
    "SWE-agent steps", None, frozenset({"instance_id", "step", "input_tokens", "output_tokens", "tool_s"}), _swe_agent
)
"""Steps of agents, a program's lines together: tokens of a call, and the seconds of the tool after it."""
CSV_FORMATS = (BURST_GPT, AZURE, SWE_AGENT)
JSON_FORMATS = (MOONCAKE,)
