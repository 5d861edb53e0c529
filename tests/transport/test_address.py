from __future__ import annotations

import pytest

from sundog.transport.address import check_header, joined, parse, resolved, with_parameters
from sundog.transport.faults import BadAddress


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("http://a.org", "http://a.org/"),
        ("HTTP://A.org:80/x", "http://a.org/x"),
        ("https://a.org:443/x?y=1#part", "https://a.org/x?y=1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("http://a.org/a b/ü?q=x y&z=ü", "http://a.org/a%20b/%C3%BC?q=x%20y&z=%C3%BC"),
        ("http://a.org/%2f%7E?s=%2B+%20", "http://a.org/%2f%7E?s=%2B+%20"),
        ("http://a.org/100%", "http://a.org/100%25"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://user:p%40ss@a.org/", "http://a.org/"),
        (" http://a.org/ ", "http://a.org/"),
    ],
)
def test_a_url_goes_out_as_it_is_written(written: str, sent: str) -> None:
    assert parse(written).url == sent


def test_user_and_password_become_a_header() -> None:
    assert parse("http://user:p%40ss@a.org/").credentials == "Basic dXNlcjpwQHNz"
    assert parse("http://a.org/").credentials is None


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("ftp://a.org/", "neither http:// nor https://"),
        ("a.org/secret", "neither http:// nor https://"),
        ("http:///secret", "no host"),
        ("http://secret:secret/", "port that is no number"),
        ("http://user:secret/path@a.org/", "port that is no number"),
        ("http://a.org:99999/secret", "port that is no number"),
        ("http://a.org:0/secret", "port 0"),
        ("http://[secret/", "no readable host"),
        ("http://sec ret/", "no readable host"),
        ("http://a.org\\@secret/", "no readable host"),
        ("http://a.org/sec\nret", "control character"),
        ("http://a.org/secret\ud800", "UTF-8"),
        ("http://\u2028secret/", "cannot be written in ASCII"),
    ],
)
def test_what_is_wrong_with_a_url_is_told_without_its_parts(written: str, says: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse(written)
    assert says in caught.value.what
    assert "secret" not in str(caught.value)


def test_a_path_comes_before_the_query_of_the_base() -> None:
    assert joined("http://a.org/v1?api-version=1", "/models") == "http://a.org/v1/models?api-version=1"
    assert joined("http://a.org/v1/", "/models") == "http://a.org/v1/models"
    assert joined(" http://a.org/v1/#part ", "/models") == "http://a.org/v1/models"
    assert joined("http://a.org/v1?a=1#part\n", "/models") == "http://a.org/v1/models?a=1"


def test_parameters_come_to_the_end_of_the_query() -> None:
    pairs = [("a", "x y&"), ("a", "ü")]
    assert with_parameters("http://a.org/p#f", pairs) == "http://a.org/p?a=x+y%26&a=%C3%BC#f"
    assert with_parameters("http://a.org/?b=1", pairs) == "http://a.org/?b=1&a=x+y%26&a=%C3%BC"
    assert with_parameters("http://a.org/", []) == "http://a.org/"
    with pytest.raises(BadAddress):
        with_parameters("http://a.org/", [("a", "\ud800")])


def test_redirects_are_relative_to_where_they_come_from() -> None:
    assert resolved("http://a.org/x/y?z", "../w") == "http://a.org/w"
    with pytest.raises(BadAddress):
        resolved("http://a.org/", "http://[")


@pytest.mark.parametrize("name", ["Content-Length", "content-length", "Transfer-Encoding"])
def test_no_header_of_a_user_says_where_a_request_ends(name: str) -> None:
    with pytest.raises(BadAddress, match="written by sundog alone"):
        check_header(name, "5")


@pytest.mark.parametrize(("name", "value"), [("A b", "x"), ("", "x"), ("A", "x\r\ny: z"), ("A", "é"), ("A", "\x00")])
def test_headers_that_cannot_be_sent(name: str, value: str) -> None:
    with pytest.raises(BadAddress) as caught:
        check_header(name, value)
    assert value not in caught.value.what or value == "x"
    check_header("X-Name", "any text\twith ~")
