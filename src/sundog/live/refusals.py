"""The reasons for which the live host takes no request.

Owns these errors. How a client hears of them is serve's affair.
"""

from __future__ import annotations

from sundog.errors import SundogError


class Overloaded(SundogError):
    """Raised where there is no room for a request now; caught by the doors, which tell the client when to come
    again."""

    def __init__(self, what: str, *, retry_after_s: float) -> None:
        super().__init__(what, hint="send it again later")
        self.retry_after_s = retry_after_s


class KeyReused(SundogError):
    """Raised for an idempotency key that its sender has used for another body; caught by the doors."""

    def __init__(self, request_id: str) -> None:
        what = "this Idempotency-Key was sent before, with another body"
        super().__init__(what, where=request_id, hint="send a key of its own with each body")
