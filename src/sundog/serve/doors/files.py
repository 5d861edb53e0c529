"""The door of files: `/v1/files`, as clients of the Batch API use it.

Owns what of HTTP means what. Where the bytes lie is batches.shelf's affair.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from sundog.serve.batches.batches import Batches
from sundog.serve.batches.quota import ComingFile, FileQuota
from sundog.serve.batches.shelf import FileShelf, IncomingFile
from sundog.serve.bodies import json_response
from sundog.serve.guard import owner_of
from sundog.serve.serving import Serving
from sundog.serve.wire.batches.files import (
    BATCH,
    file_document,
    is_id,
    no_file,
    page_document,
    read_after,
    read_expiry,
    read_limit,
)
from sundog.serve.wire.batches.multipart import FormReader
from sundog.serve.wire.errors import Refusal, wrong_request
from sundog.store.files import KeptFile

NUM_FILES_OF_PAGE = 1_000
MAX_FILES_OF_PAGE = 10_000
NUM_LINES_AT_ONCE = 64
FORM_BYTES = 2**20
"""A form is so much longer than its file, at most."""
BYTES = "application/octet-stream"


class FileDoor:
    """This class takes, shows and gives files."""

    def __init__(self, serving: Serving, shelf: FileShelf, batches: Batches, max_kept_bytes: int) -> None:
        """`max_kept_bytes`: those of the files of one key together."""
        self._serving = serving
        self._shelf = shelf
        self._batches = batches
        self._files = batches.files
        self._quota = FileQuota(self._files, max_kept_bytes)
        self.routes = [
            Route("/v1/files", self.post, methods=["POST"]),
            Route("/v1/files", self.list, methods=["GET"]),
            Route("/v1/files/{id}", self.get, methods=["GET"]),
            Route("/v1/files/{id}", self.delete, methods=["DELETE"]),
            Route("/v1/files/{id}/content", self.content, methods=["GET"]),
        ]

    async def post(self, request: Request) -> Response:
        """Take a file: it is on the disk before this is answered."""
        told_bytes = self._check(request)
        owner = owner_of(request.scope)
        file_id, now = f"file-{uuid.uuid4().hex}", time.time()
        form = FormReader(request.headers.get("content-type", ""))
        quota = self._quota.coming(owner, file_id, told_bytes - FORM_BYTES)
        with quota as coming, self._shelf.receiving(file_id) as incoming:
            await _receive(request, form, incoming, coming)
            expires_s = read_expiry(form.fields)
            await incoming.keep()
            expires_at = None if expires_s is None else now + expires_s
            of = (owner, BATCH, form.filename or file_id)
            file = KeptFile(file_id, *of, incoming.num_bytes, now, expires_at)
            await self._files.put(file)
            coming.is_kept = True
        return json_response(self._document(file))

    async def list(self, request: Request) -> Response:
        """Show a page of the files of whoever asks."""
        asked = request.query_params
        order = asked.get("order", "desc")
        if order not in ("asc", "desc"):
            raise wrong_request("order", "it is asc or desc")
        limit = read_limit(asked.get("limit"), NUM_FILES_OF_PAGE, MAX_FILES_OF_PAGE)
        found = self._files.page(
            owner_of(request.scope),
            time.time(),
            purpose=asked.get("purpose"),
            after=read_after(asked.get("after")),
            limit=limit + 1,
            is_ascending=order == "asc",
        )
        return json_response(page_document([self._document(file) for file in found], limit))

    async def get(self, request: Request) -> Response:
        return json_response(self._document(self._file(request)))

    async def content(self, request: Request) -> Response:
        """Give the bytes of a file; of a batch that goes on, those that there are."""
        file = self._file(request)
        if file.batch_id is None:
            return FileResponse(self._shelf.path(file.file_id), media_type=BYTES)
        return StreamingResponse(self._lines(file, file.batch_id), media_type=BYTES)

    async def delete(self, request: Request) -> Response:
        """Forget a file that no batch needs any more."""
        file = self._file(request)
        reader = self._batches.book.reader_of(file.file_id)
        if reader is not None:
            what = f"the batch '{reader}' is not done with the file; cancel it first, or wait"
            raise Refusal(409, what, param="id", code="file_in_use", is_final=True)
        await self._batches.delete(file)
        return json_response({"id": file.file_id, "object": "file", "deleted": True})

    def _check(self, request: Request) -> int:
        """Return how long a request says that it is, 0 where it does not; Refusal where it is too long, or comes too
        late."""
        if self._serving.is_stopping:
            raise Refusal(503, "the server is stopping", code="stopping", retry_after_s=1.0)
        told = request.headers.get("content-length", "")
        num_bytes = int(told) if told.isdigit() else 0
        if num_bytes > self._shelf.max_bytes + FORM_BYTES:
            what = f"the file is larger than the {self._shelf.max_bytes:,} bytes that this server takes"
            raise Refusal(413, what, param="file", code="file_too_large", is_final=True)
        return num_bytes

    def _file(self, request: Request) -> KeptFile:
        file_id = request.path_params["id"]
        found = self._files.find(owner_of(request.scope), file_id, time.time()) if is_id(file_id) else None
        if found is None:
            raise no_file(file_id)
        return found

    def _document(self, file: KeptFile) -> dict[str, object]:
        return file_document(file, self._batches.num_bytes(file))

    async def _lines(self, file: KeptFile, batch_id: str) -> AsyncIterator[bytes]:
        """Yield the lines that have ended, a few at a time."""
        is_error, number = self._batches.is_of_errors(file, batch_id), 0
        while found := self._batches.book.lines(batch_id, number, NUM_LINES_AT_ONCE, is_error=is_error):
            yield b"".join(body for _, body in found)
            number = found[-1][0]


async def _receive(request: Request, form: FormReader, incoming: IncomingFile, coming: ComingFile) -> None:
    """Read a form to its end, and its file to the disk."""
    num_bytes, more_follow = 0, True
    while more_follow:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "the client left before its request was whole")
        piece = message.get("body", b"")
        num_bytes += len(piece)
        for part in form.feed(piece):
            coming.take(len(part))
            await incoming.write(part)
        if num_bytes > incoming.num_bytes + FORM_BYTES:
            raise wrong_request("file", "the form has more beside its file than this server takes")
        more_follow = message.get("more_body", False)
    form.end()
