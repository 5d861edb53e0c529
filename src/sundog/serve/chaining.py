"""Programs that are known by nothing but their messages: whoever goes on from a conversation that was answered belongs
to the program that it was answered for.

Owns a bounded book of the ends of conversations. Never knows time, and never reads a session's id: who tells one needs
no book.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sundog.serve.message_digests import conversation_digests, digest_after


@dataclass(frozen=True, slots=True)
class ChainedRequest:
    """The place of one request: its program, and where it stands in that."""

    program: str
    #: The program that this one was forked from; empty for a program that has begun anew, or went on.
    parent: str
    #: The program has begun with this request.
    is_new: bool
    #: The conversation that was asked.
    asked: bytes
    #: The end of the program before this request, None where it had none.
    before: _End | None


@dataclass(frozen=True, slots=True)
class _End:
    """The end of a program: the conversation that was asked last and, once it is known, with its answer."""

    asked: bytes
    answered: bytes | None = None


class ProgramChains:
    """This class finds the programs of requests by their messages, and remembers the ends of at most `max_programs`
    programs, and as many conversations from which programs went on; the oldest are forgotten first.

    A conversation that goes on from an end continues its program. Where the program has gone on already, it is a fork:
    a child of it. Equal conversations of several clients are programs of their own, and each one that goes on takes one
    of them.
    """

    def __init__(self, max_programs: int) -> None:
        self._max_programs = max_programs
        self._ends: OrderedDict[str, _End] = OrderedDict()
        #: The programs that end at a conversation, in the order in which they came there.
        self._asked: dict[bytes, dict[str, None]] = {}
        #: The same of conversations with their answers.
        self._answered: dict[bytes, dict[str, None]] = {}
        #: The program that last went on from a conversation.
        self._left: OrderedDict[bytes, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def request(self, scope: str, messages: Sequence[Any], new_program: str) -> ChainedRequest:
        """Return the place of a request that has come. `scope`: a tenant or another owner of programs.
        `new_program`: the id of a program that begins with it."""
        digests = conversation_digests(scope, messages)
        asked = digests[-1] if digests else conversation_digests(scope, [None])[0]
        program, parent = self._found(digests[:-1])
        is_new = program is None
        program = new_program if program is None else program
        before = self._ends.get(program)
        if before is not None:
            self._remember_left(before, program)
        self._put(program, _End(asked))
        return ChainedRequest(program, parent, is_new, asked, before)

    def answered(self, request: ChainedRequest, answer: Any) -> None:
        """Take the answer of a request, a message of the role `assistant`: what goes on from it is of its program."""
        if self._ends.get(request.program) == _End(request.asked):
            self._put(request.program, _End(request.asked, digest_after(request.asked, answer)))

    def failed(self, request: ChainedRequest) -> None:
        """Forget a request that was not answered: the next attempt stands where this one stood."""
        if self._ends.get(request.program) != _End(request.asked):
            return
        self._take(request.program)
        if request.before is not None:
            self._put(request.program, request.before)

    def forget(self, program: str) -> None:
        """Forget a program that has ended."""
        self._take(program)

    def _found(self, digests: Sequence[bytes]) -> tuple[str | None, str]:
        """Return the program that goes on, None for a new one, and the parent of that; the longest beginning of the
        conversation counts."""
        for digest in reversed(digests):
            answered = self._answered.get(digest)
            if answered:
                return next(iter(answered)), ""
            asked = self._asked.get(digest)
            # The client has changed the answer, or never got one: only one program can be meant, or none is.
            if asked is not None and len(asked) == 1:
                return next(iter(asked)), ""
            left = self._left.get(digest)
            if left is not None:
                self._left.move_to_end(digest)
                return None, left
        return None, ""

    def _put(self, program: str, end: _End) -> None:
        self._take(program)
        self._ends[program] = end
        self._asked.setdefault(end.asked, {})[program] = None
        if end.answered is not None:
            self._answered.setdefault(end.answered, {})[program] = None
        if len(self._ends) > self._max_programs:
            self._take(next(iter(self._ends)))

    def _take(self, program: str) -> None:
        end = self._ends.pop(program, None)
        if end is not None:
            _leave(self._asked, end.asked, program)
            if end.answered is not None:
                _leave(self._answered, end.answered, program)

    def _remember_left(self, end: _End, program: str) -> None:
        for digest in (end.asked, end.answered):
            if digest is not None:
                self._left[digest] = program
                self._left.move_to_end(digest)
        while len(self._left) > self._max_programs:
            self._left.popitem(last=False)


def _leave(places: dict[bytes, dict[str, None]], digest: bytes, program: str) -> None:
    del places[digest][program]
    if not places[digest]:
        del places[digest]
