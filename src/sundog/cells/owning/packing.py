"""A result as it goes between a cell and an owner: encoded once, and only packed into other bytes after that. And a
failure, as any process can read it.

Owns the form: a head of fixed size, then run, node and value.
"""

from __future__ import annotations

from struct import Struct

from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.ir.values.normal_form import decode
from sundog.store.store import Stored
from sundog.store.writer import ResultRow

_HEAD = Struct("<QQQdHH")
"""Prompt, cached and output tokens; seconds; the bytes of the run's id and of the node's name."""


def pack_result(row: ResultRow) -> bytes:
    """Return a result without its key.

    >>> unpack_result(b"key", pack_result((b"key", "run", "node", b"1", 7, 2, 3, 0.5)))
    (b'key', 'run', 'node', b'1', 7, 2, 3, 0.5)
    """
    _, run_id, node, body, num_prompt, num_cached, num_output, call_s = row
    run, name = run_id.encode(), node.encode()
    return _HEAD.pack(num_prompt, num_cached, num_output, call_s, len(run), len(name)) + run + name + body


def unpack_result(key: bytes, packed: bytes) -> ResultRow:
    """Return what was packed, with its key."""
    *tokens, call_s, run_size, name_size = _HEAD.unpack_from(packed)
    num_prompt, num_cached, num_output = tokens
    name_begin = _HEAD.size + run_size
    begin = name_begin + name_size
    run_id, node = packed[_HEAD.size : name_begin].decode(), packed[name_begin:begin].decode()
    return (key, run_id, node, packed[begin:], num_prompt, num_cached, num_output, call_s)


def stored_of(packed: bytes) -> Stored:
    """Return what the store would give for a packed result."""
    _, run_id, _, body, num_prompt, num_cached, num_output, call_s = unpack_result(b"", packed)
    return Stored(decode(body), Usage(num_prompt, num_output, num_cached), run_id, call_s)


def sent_failure(error: CallError) -> CallError | None:
    """Return an error with what rows read of it, whatever else it holds; None for one of a class that others may not
    know, and whose name they would have to tell."""
    if type(error).__module__ != CallError.__module__:
        return None
    sent = type(error)(
        error.what,
        where=error.where,
        hint=error.hint,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        is_outcome_unknown=error.is_outcome_unknown,
    )
    sent.num_attempts = error.num_attempts
    return sent
