"""The quota of files: how many bytes the files of one key may have together.

Owns what is kept and what is coming of each key. Never writes a byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sundog.serve.wire.errors import Refusal
from sundog.store.files import FileBook

MAX_KEPT_BYTES = 16 * 2**30


@dataclass(slots=True)
class _Use:
    #: All of it is kept, or comes now.
    num_bytes: int = 0
    #: By id, the files that come now.
    coming: dict[str, ComingFile] = field(default_factory=dict)


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
    def coming(self, owner: str, file_id: str, told_bytes: int) -> Iterator[ComingFile]:
        """Yield what counts a file of a key; `told_bytes`: so many come at least, as its client says. Refusal where
        there is no room for them."""
        use = self._uses.setdefault(owner, _Use())
        # What was deleted, and what batches have made, is on the disk; a file that comes may be there or not.
        use.num_bytes = self._book.num_bytes(owner, but=use.coming)
        use.num_bytes += sum(one.num_bytes for one in use.coming.values())
        file = use.coming[file_id] = ComingFile(self, owner, use)
        try:
            if use.num_bytes + told_bytes > self.max_bytes:
                raise self.refusal(owner, use.num_bytes)
            yield file
        finally:
            del use.coming[file_id]
            if not file.is_kept:
                use.num_bytes -= file.num_bytes
            if not use.coming:
                del self._uses[owner]

    def refusal(self, owner: str, num_bytes: int) -> Refusal:
        """Return what a client hears whose files have so many bytes already."""
        whose = "this key" if owner else "this server"
        what = (
            f"the files of {whose} have {num_bytes:,} of {self.max_bytes:,} bytes, and this one has no room beside them"
        )
        hint = "delete some (DELETE /v1/files/ID), or start the server with a larger --file-quota"
        return Refusal(413, f"{what}; {hint}", param="file", code="file_quota_exceeded", is_final=True)
