"""The curl commands of a page, asked as curl would ask.

Owns the few options that the pages use. Never starts a server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from tests.serve.asking import Heard, ask

OPTIONS = {"-d": "data", "-H": "header", "-X": "method"}


def curl(address: str, words: Sequence[str]) -> Heard:
    """Return the answer of the server at `address`, whatever server the command names."""
    given: dict[str, list[str]] = {"data": [], "header": [], "method": []}
    urls: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in OPTIONS:
            given[OPTIONS[word]].append(next(rest))
        elif re.fullmatch(r"-[sNi]+", word) is None:
            assert not word.startswith("-"), f"the tests do not know this option of curl: {word}"
            urls.append(word if "://" in word else f"http://{word}")
    (url,) = map(urlsplit, urls)
    assert url.netloc == "localhost:8321", f"the pages ask the server at localhost:8321, not {url.netloc}"
    method = given["method"] or ["POST" if given["data"] else "GET"]
    headers = dict(re.split(r":\s*", header, maxsplit=1) for header in given["header"])
    body = given["data"][0].encode() if given["data"] else None
    return ask(address, method[0], url.path, body, headers, as_text=True)
