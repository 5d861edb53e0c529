"""The control endpoint: POST /sundog/<call> on vLLM's API server, for who has the token.

Owns routes and the token. Off unless SUNDOG_CONTROL_TOKEN is set and VLLM_PLUGINS names `sundog`: vLLM adds the routes
of a plugin only when that is asked for.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sundog.vllm_plugin.control_calls import CONTROL_CALLS, RPC
from sundog.vllm_plugin.engine_types import AsyncEngine

TOKEN = "SUNDOG_CONTROL_TOKEN"
ABORT = "abort"
MIN_TOKEN_LENGTH = 16
log = logging.getLogger("vllm.sundog")


class ControlEndpoint:
    """vLLM's EndpointPlugin."""

    name = "sundog"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._token = os.environ.get(TOKEN, "")
        self._engine: AsyncEngine | None = None

    def attach_router(self, app: Any) -> None:
        if len(self._token) < MIN_TOKEN_LENGTH:
            log.warning("sundog: no control endpoint; it needs %s, %d characters or more", TOKEN, MIN_TOKEN_LENGTH)
            return
        app.router.routes.append(Route("/sundog/{call}", self._serve, methods=["POST"]))

    async def init_state(self, engine_client: AsyncEngine | None, state: Any, args: Any) -> None:
        self._engine = engine_client

    async def _serve(self, request: Request) -> JSONResponse:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return JSONResponse({"error": "wrong or missing token", "hint": f"Authorization: Bearer ${TOKEN}"}, 401)
        call = request.path_params["call"]
        if call not in (*CONTROL_CALLS, ABORT):
            return JSONResponse(
                {"error": f"no call '{call}'", "hint": f"calls: {', '.join((*CONTROL_CALLS, ABORT))}"}, 404
            )
        arguments = (await request.body()).decode(errors="replace")
        answer = await self._ask("request_ids" if call == ABORT else call, arguments)
        if call == ABORT and "error" not in answer:
            answer = await self._abort(answer["request_ids"])
        return JSONResponse(answer, 400 if "error" in answer else 200)

    async def _abort(self, request_ids: list[str]) -> dict[str, Any]:
        assert self._engine is not None, "vLLM serves before it has set the engine"
        await self._engine.abort(request_ids, internal=True)
        return {"num_aborted": len(request_ids)}

    async def _ask(self, call: str, arguments: str) -> dict[str, Any]:
        assert self._engine is not None, "vLLM serves before it has set the engine"
        answer: dict[str, Any] = json.loads(await self._engine.engine_core.call_utility_async(RPC, call, arguments))
        return answer
