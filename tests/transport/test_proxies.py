from __future__ import annotations

import pytest

from sundog.errors import ConfigError
from sundog.transport.address import parse
from sundog.transport.proxies import Proxy, proxy_of

ALL = {"HTTP_PROXY": "http://h:1", "HTTPS_PROXY": "http://s:2", "ALL_PROXY": "socks5://a:3"}


def found(url: str, option: str | None = None, **environment: str) -> Proxy | None:
    return proxy_of(parse(url), option, environment)


def test_each_scheme_has_its_variable_and_all_have_one() -> None:
    assert found("http://x/", **ALL) == Proxy("http://h:1", "HTTP_PROXY")
    assert found("https://x/", **ALL) == Proxy("http://s:2", "HTTPS_PROXY")
    socks = found("https://x/", ALL_PROXY="socks5://a:3", HTTPS_PROXY="")
    assert socks == Proxy("socks5://a:3", "ALL_PROXY")
    assert socks.is_socks
    assert found("http://x/") is None


def test_small_letters_come_first_and_a_scheme_may_be_left_out() -> None:
    assert found("http://x/", HTTP_PROXY="http://h:1", http_proxy="small:2") == Proxy("http://small:2", "http_proxy")


def test_the_option_comes_before_the_environment_and_may_be_none() -> None:
    assert found("http://x/", "http://o:1", **ALL) == Proxy("http://o:1", "the option `proxy`")
    assert found("http://x/", "", **ALL) is None
    assert found("http://x/", "http://o:1", NO_PROXY="x") is not None


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("a.org", "http://a.org/", True),
        ("a.org", "http://sub.a.org/", True),
        (".a.org", "http://sub.a.org/", True),
        ("*.a.org", "http://sub.a.org/", True),
        ("a.org", "http://ba.org/", False),
        ("A.org", "http://a.ORG/", True),
        ("*", "http://any/", True),
        ("b.org, localhost", "http://localhost:8000/", True),
        ("localhost:8000", "http://localhost:8000/", True),
        ("localhost:8000", "http://localhost:8001/", False),
        ("127.0.0.1", "http://127.0.0.1:8000/", True),
        ("127.0.0.1", "http://localhost/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("::1", "http://[::1]:8000/", True),
        ("[::1]:8000", "http://[::1]:8000/", True),
        ("fd00::/8", "http://[fd12::1]/", True),
        ("10.0.0.0/8", "http://name/", False),
        (",,", "http://a.org/", False),
    ],
)
def test_hosts_without_a_proxy(no_proxy: str, url: str, is_direct: bool) -> None:
    assert (found(url, NO_PROXY=no_proxy, **ALL) is None) == is_direct


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:secret@a:1",
        "socks9://secret",
        "http://",
        "http://user:secret/1@a:1",
        "http://secret:port",
        "http://secret:99999",
        "http://[secret",
        "socks5://user:@",
        "http://sec ret:1",
    ],
)
def test_what_is_no_proxy_is_told_by_its_source(url: str) -> None:
    with pytest.raises(ConfigError, match="HTTP_PROXY names a proxy that is none") as caught:
        found("http://x/", HTTP_PROXY=url)
    assert "secret" not in str(caught.value)
