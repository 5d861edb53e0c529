"""The door of batches: `/v1/batches`, as clients of the Batch API use it.

Owns what of HTTP means what. The life of a batch is batches.run's affair.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sundog.errors import suggest
from sundog.serve.batches.batches import Batches
from sundog.serve.bodies import json_response, parse_json_body, read_body
from sundog.serve.guard import owner_of, principal_of
from sundog.serve.loading import LoadedFlow
from sundog.serve.wire.batches.files import BATCH, is_id, no_file, page_document, read_after, read_limit
from sundog.serve.wire.batches.requests import WantedBatch, batch_document, read_wanted_batch
from sundog.serve.wire.errors import Refusal, wrong_request
from sundog.store.batches import KeptBatch

NUM_BATCHES_OF_PAGE = 20
MAX_BATCHES_OF_PAGE = 100


class BatchDoor:
    """This class takes, shows and cancels batches. `loaded`: the flows that are served, by name."""

    def __init__(self, batches: Batches, loaded: Mapping[str, LoadedFlow]) -> None:
        self._batches = batches
        self._loaded = loaded
        self.routes = [
            Route("/v1/batches", self.post, methods=["POST"]),
            Route("/v1/batches", self.list, methods=["GET"]),
            Route("/v1/batches/{id}", self.get, methods=["GET"]),
            Route("/v1/batches/{id}/cancel", self.cancel, methods=["POST"]),
        ]

    async def post(self, request: Request) -> Response:
        """Accept a batch: it is on the disk before this is answered, and looked at after that."""
        wanted = read_wanted_batch(parse_json_body(await read_body(request)))
        owner = owner_of(request.scope)
        file = self._batches.files.find(owner, wanted.input_file_id, time.time())
        if file is None:
            raise no_file(wanted.input_file_id, "input_file_id")
        if file.purpose != BATCH:
            raise wrong_request("input_file_id", f"the file has the purpose '{file.purpose}', not '{BATCH}'")
        self._check_flow(request, wanted)
        return json_response(self._document(await self._batches.create(owner, wanted)))

    async def list(self, request: Request) -> Response:
        """Show a page of the batches of whoever asks, the newest first."""
        asked = request.query_params
        limit = read_limit(asked.get("limit"), NUM_BATCHES_OF_PAGE, MAX_BATCHES_OF_PAGE)
        after = read_after(asked.get("after"))
        found = self._batches.book.page(owner_of(request.scope), after=after, limit=limit + 1)
        return json_response(page_document([self._document(batch) for batch in found], limit))

    async def get(self, request: Request) -> Response:
        return json_response(self._document(self._batch(request)))

    async def cancel(self, request: Request) -> Response:
        """Begin no further line of a batch; those that have ended are kept."""
        batch = self._batch(request)
        if not batch.is_open:
            what = f"the batch has ended: it is {batch.status}"
            raise Refusal(409, what, param="id", code="batch_has_ended", is_final=True)
        await self._batches.cancel(batch)
        return json_response(self._document(self._batch(request)))

    def _batch(self, request: Request) -> KeptBatch:
        batch_id = request.path_params["id"]
        found = self._batches.book.find(owner_of(request.scope), batch_id) if is_id(batch_id) else None
        if found is None:
            what = f"there is no batch '{batch_id[:64]}'"
            raise Refusal(404, what, param="id", code="batch_not_found", is_final=True)
        return found

    def _check_flow(self, request: Request, wanted: WantedBatch) -> None:
        flow, principal = wanted.flow, principal_of(request.scope)
        if flow is None:
            return
        if principal is not None and not principal.allows_flow(flow):
            what = f"this key may not use the flow '{flow}'"
            raise Refusal(403, what, param="endpoint", code="flow_not_allowed", is_final=True)
        if flow not in self._loaded:
            what = f"there is no flow '{flow}'; {suggest(flow, self._loaded)}"
            raise Refusal(404, what, param="endpoint", code="flow_not_found", is_final=True)

    def _document(self, batch: KeptBatch) -> dict[str, Any]:
        return batch_document(*self._batches.now(batch))
