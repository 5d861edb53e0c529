"""The value of an http step: what an answer's bytes say.

Owns character sets, byte order marks and which headers are kept. Never decides whether the answer is a failure.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any

from sundog.ir.values.normal_form import NoNormalForm
from sundog.transport.answer import WholeAnswer

# The others may hold credentials (set-cookie) or differ at each call (date), and results are kept.
KEPT_HEADERS = ("content-type", "content-language", "etag", "last-modified", "link", "location", "retry-after")
# Codecs of Python that are no character sets of documents.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode-escape", "unicode_escape", "raw-unicode-escape"}
_NO_CHARSETS |= {"raw_unicode_escape", "utf-7", "utf_7", "mbcs", "oem"}
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([^\s;\"']+)", re.I)
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def answer_value(answer: WholeAnswer, text: str) -> dict[str, Any]:
    """Return `{status, headers, text, json}`, for the `text` of the answer; NoNormalForm for JSON that no value can
    hold."""
    return {
        "status": answer.status,
        "headers": {name: _header(answer.headers[name]) for name in KEPT_HEADERS if name in answer.headers},
        "text": text,
        "json": _json(text),
    }


def body_text(answer: WholeAnswer) -> str:
    """Return the body without a byte order mark, in the character set that it begins with or the type names; one that
    nobody knows is read as UTF-8."""
    body, content_type = answer.body, answer.headers.get("content-type", "")
    for mark, charset in _MARKS:
        if body.startswith(mark):
            return body.decode(charset, "replace")
    named = _CHARSET.search(content_type)
    return body.decode(_known(named[1]) if named else "utf-8", "replace")


def _known(charset: str) -> str:
    try:
        codec = codecs.lookup(charset)
        # Codecs from bytes to bytes (base64, zip) refuse to be used for text.
        b" ".decode(charset, "replace")
    except (LookupError, ValueError):
        return "utf-8"
    return "utf-8" if codec.name in _NO_CHARSETS else charset


def _header(value: str) -> str:
    # Bytes that are no UTF-8 come as halves of surrogate pairs.
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _json(text: str) -> Any:
    """Return the text's JSON value, whatever its content type says; None where it has none. NaN and infinity stay in
    it, so that whoever keeps the value refuses it with their place."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return None
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] not in ("{", "["):
            return None
        is_deep = isinstance(error, RecursionError)
        raise NoNormalForm(
            "is JSON nested too deeply" if is_deep else f"is JSON with such a number: {error!s:.70}"
        ) from None
    # Alone in a body, NaN and Infinity are words.
    return None if isinstance(value, float) and not math.isfinite(value) else value
