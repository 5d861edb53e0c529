"""The quota of files: how many bytes the files of one key may have together.

Owns what is kept and what is coming of each key. Never writes a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sundog.serve.wire.errors import Refusal
from sundog.store.files import FileBook

MAX_KEPT_BYTES = 16 * 2**30


@dataclass(slots=True)
class _Use:
    #: All of it is kept, or comes now.
    num_bytes: int
    num_coming: int = 0


class ComingFile:
    """This class counts the bytes of one file as they come."""

    def __init__(self, quota: FileQuota, owner: str, use: _Use) -> None:
        self._quota = quota
        self._owner = owner
        self._use = use
        self.num_bytes = 0
        #: Its row is on the disk: it counts from now on, whatever becomes of its request.
        self.is_kept = False

    def take(self, num_bytes: int) -> None:
        """Count the next bytes; Refusal where the key may keep no more."""
        if self._use.num_bytes + num_bytes > self._quota.max_bytes:
            raise self._quota.refusal(self._owner, self._use.num_bytes - self.num_bytes)
        self._use.num_bytes += num_bytes
        self.num_bytes += num_bytes


class FileQuota:
    """This class lets files in while those of their key have at most `max_bytes`; the files that batches make count
    too, once they have ended."""

    def __init__(self, book: FileBook, max_bytes: int) -> None:
        self._book = book
        self.max_bytes = max_bytes
        #: By key, those of which files come now.
        self._uses: dict[str, _Use] = {}

    @contextmanager
    def coming(self, owner: str, told_bytes: int) -> Iterator[ComingFile]:
        """Yield what counts a file of a key; `told_bytes`: so many come at least, as its client says. Refusal where
        there is no room for them."""
        use = self._uses.get(owner)
        if use is None:
            use = self._uses[owner] = _Use(self._book.num_bytes(owner))
        file = ComingFile(self, owner, use)
        use.num_coming += 1
        try:
            if use.num_bytes + told_bytes > self.max_bytes:
                raise self.refusal(owner, use.num_bytes)
            yield file
        finally:
            use.num_coming -= 1
            if not file.is_kept:
                use.num_bytes -= file.num_bytes
            if not use.num_coming:
                # What is deleted from now on makes room.
                del self._uses[owner]

    def refusal(self, owner: str, num_bytes: int) -> Refusal:
        """Return what a client hears whose files have so many bytes already."""
        whose = "this key" if owner else "this server"
        what = (
            f"the files of {whose} have {num_bytes:,} of {self.max_bytes:,} bytes, and this one has no room beside them"
        )
        hint = "delete some (DELETE /v1/files/ID), or start the server with a larger --file-quota"
        return Refusal(413, f"{what}; {hint}", param="file", code="file_quota_exceeded", is_final=True)
