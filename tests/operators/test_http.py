"""HTTP steps against a real server, that answers, refuses, hangs and hangs up."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from sundog.errors import ConfigError, FlowError, OperatorError
from sundog.ir.physical import Sharing
from sundog.ir.templates.render import Scope
from sundog.ir.values.normal_form import NoNormalForm, normal_form
from sundog.operators.base import Inspection
from sundog.operators.http.operator import HTTPOperator, HTTPSpec
from sundog.secrets import Secrets
from tests.operators.conformance import SECRET, SECRET_VALUE, Case, Context, OperatorConformance, Subject
from tests.operators.server import Server
from tests.transport.certificates import make_authority
from tests.transport.raw_server import OK, proxying, serving

EFFECT = {"method": "POST"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as started:
        yield started


def run(spec: HTTPSpec, scope: Scope | None = None, context: Context | None = None) -> Any:
    async def once() -> Any:
        operator = HTTPOperator(Path())
        try:
            operator.check(spec, {})
            call = operator.bind(spec, scope or {}, {})
            return (await operator.run(call, context or Context())).value
        finally:
            await operator.close()

    return asyncio.run(once())


def fault(spec: HTTPSpec, context: Context | None = None) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        run(spec, context=context)
    return caught.value


def spec(url: str, **fields: Any) -> HTTPSpec:
    return HTTPSpec.model_validate({"url": url, **fields})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self, server: Server) -> Subject:
        echo = f"{server.origin}/echo"
        row = {"row": {"id": 7, "tags": ["a", "b"]}}
        return Subject(
            operator=HTTPOperator(Path()),
            good=Case(spec(echo, params={"id": "{{ row.id }}", "tag": "{{ row.tags }}"}), row),
            other=Case(spec(echo, params={"id": 8})),
            unbound=(
                Case(spec(echo + "/{{ row.nix }}"), row),
                Case(spec(echo, headers={"X-A": "{{ row }}"}), row),
                Case(spec("{{ row }}"), row),
            ),
            faulty=(
                Case(spec(f"{server.origin}/status/500?say={SECRET}")),
                Case(spec(f"{server.origin}/reset")),
                Case(spec(f"{server.origin}/half")),
                Case(spec(f"http://127.0.0.1:{free_port()}/")),
                Case(spec("{{ row.url }}"), {"row": {"url": "ftp://127.0.0.1/"}}),
                Case(spec("{{ row.url }}"), {"row": {"url": "http://[/"}}),
                Case(spec(echo, headers={"X-A": "{{ row.a }}"}), {"row": {"a": "x\r\nX-B: y"}}),
                Case(spec(echo, headers={"X-A": "${env:SUNDOG_UNSET}"})),
            ),
            endless=Case(spec(f"{server.origin}/hang")),
            num_running=lambda: server.num_hanging,
            secret=Case(spec(echo, headers={"Authorization": f"Bearer {SECRET}"}, params={"key": SECRET})),
            effects=tuple(Case(spec(echo, method=method)) for method in ("POST", "PUT", "PATCH", "DELETE")),
        )


def test_the_value_of_a_call(server: Server) -> None:
    value = run(spec(server.origin + "/echo?a=1", params={"b": "{{ row.b }}"}), {"row": {"b": "x y&z=1"}})
    assert value["status"] == 200
    assert value["headers"] == {"content-type": "application/json"}
    assert value["json"]["path"] == "/echo?a=1&b=x+y%26z%3D1"
    assert '"method": "GET"' in value["text"]


def test_json_keeps_the_types_of_values(server: Server) -> None:
    body = {"n": "{{ row.n }}", "list": ["{{ row.f }}", "n is {{ row.n }}", None, True]}
    value = run(spec(server.origin + "/echo", json=body, **EFFECT), {"row": {"n": 1, "f": 0.5}})
    assert value["json"]["body"] == '{"n":1,"list":[0.5,"n is 1",null,true]}'
    assert value["json"]["headers"]["content-type"] == "application/json"


def test_a_body_is_sent_as_it_is(server: Server) -> None:
    value = run(spec(server.origin + "/echo", body="a={{ row.a }}", method="PUT"), {"row": {"a": "ü"}})
    assert value["json"]["body"] == "a=ü"


def test_only_effects_carry_the_idempotency_key(server: Server) -> None:
    context = Context(idempotency_key="key-of-the-effect")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        run(spec(server.origin + "/echo", method=method), context=context)
    keys = [seen.headers.get("idempotency-key") for seen in server.seen]
    assert keys == [None] + ["key-of-the-effect"] * 4


@pytest.mark.parametrize(
    ("url", "pool"),
    [
        ("https://api.org/v1/{{ row.id }}", "http:https://api.org"),
        ("HTTPS://api.org:8443?x={{ row.id }}", "http:https://api.org:8443"),
        ("http://api.org", "http:http://api.org"),
        ("https://user:${env:PASSWORD}@api.org/", "http:https://api.org"),
        ("https://${env:HOST_NAME}/{{ row.id }}", "http:https://${env:HOST_NAME}"),
        ("https://api.org{{ row.path }}", "http:*"),
        ("https://{{ row.host }}/", "http:*"),
        ("{{ row.url }}", "http:*"),
    ],
)
def test_the_pool_is_the_origin_where_no_row_decides_it(url: str, pool: str) -> None:
    traits = HTTPOperator(Path()).traits(spec(url))
    assert (traits.pool, traits.resource) == (pool, pool)


def test_reads_are_shared_and_effects_are_not() -> None:
    sharing = {
        method: HTTPOperator(Path()).traits(spec("http://a.org/", method=method)).sharing
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    }
    assert {method for method, found in sharing.items() if found is Sharing.RUN} == {"GET", "HEAD"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "example.org/x"}, "no URL"),
        ({"url": "ftp://example.org/{{ row.x }}"}, "no URL"),
        ({"url": "http://a.org/", "json": {}, "body": "x"}, "json or body"),
        ({"url": "http://a.org/", "method": "POST", "follow_redirects": True}, "does not follow"),
        ({"url": "http://a.org/", "headers": {"A": "{{ '${env:NAME}' ~ row.x }}"}}, "inside an expression"),
    ],
)
def test_mistakes_found_before_the_run(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FlowError, match=message):
        HTTPOperator(Path()).check(HTTPSpec.model_validate(fields), {})


@pytest.mark.parametrize(
    ("url", "is_wrong"),
    [
        ("http://a.org", False),
        ("HTTPS://user:p@a.org:8443/x?y=z", False),
        ("${env:BASE}/x", False),
        ("https://${env:HOST_NAME}/x", False),
        ("", True),
        ("a.org/x", True),
        ("ftp://a.org", True),
        ("http://", True),
        ("http://a.org:port/", True),
        ("http://[::1/", True),
    ],
)
def test_rows_without_a_url_are_counted_before_the_run(url: str, *, is_wrong: bool) -> None:
    operator, written = HTTPOperator(Path()), spec("{{ row.url }}")
    calls = {row: (operator.bind(written, {"row": {"url": one}}, {}),) for row, one in enumerate((url, "http://b.org"))}
    found = asyncio.run(operator.inspect(written, Inspection(calls, Secrets({}), 1.0, 2, 2)))
    assert bool(found) is is_wrong
    assert all("1 of 2 rows have no URL" in one.what and not one.is_fatal for one in found)


def test_a_step_goes_its_own_way(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)

    async def ask(**fields: Any) -> Any:
        operator = HTTPOperator(tmp_path)
        try:
            return (await operator.run(operator.bind(spec(**fields), {}, {}), Context())).value["text"]
        finally:
            await operator.close()

    async def run_both() -> None:
        async with proxying() as proxy, serving(OK, tls=authority.server_context()) as server:
            with pytest.raises(OperatorError, match="not trusted"):
                await ask(url=server.origin, proxy="")
            named = {"url": server.origin, "ca_file": authority.ca_file.name}
            assert await ask(**named, proxy="") == "ok"
            assert not proxy.heads
            assert await ask(**named, proxy=proxy.origin) == "ok"
            assert proxy.heads[0].startswith("CONNECT")
            with pytest.raises(ConfigError, match="the option `proxy` names a proxy that is none") as caught:
                await ask(**named, proxy=f"http://user:{SECRET}@127.0.0.1:1")
            assert SECRET_VALUE[:4] not in str(caught.value)

    asyncio.run(run_both())


def test_a_file_of_authorities_that_is_not_there_is_told_before_the_run(tmp_path: Path) -> None:
    operator, written = HTTPOperator(tmp_path), spec("https://a.org/", ca_file="none.pem")
    calls = {0: (operator.bind(written, {}, {}),)}
    (found,) = asyncio.run(operator.inspect(written, Inspection(calls, Secrets({}), 1.0, 1, 1)))
    assert "none.pem" in found.what
    assert found.is_fatal


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_a_header_that_says_where_the_request_ends_is_refused_with_the_flow(name: str) -> None:
    with pytest.raises(FlowError, match=f"'{name}'") as caught:
        HTTPOperator(Path()).check(spec("http://a.org/", headers={name: "5"}), {})
    assert caught.value.where == f"headers.{name}"


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValidationError):
        spec("http://a.org/", method="FETCH")


@pytest.mark.parametrize(
    ("status", "on_get", "on_post"),
    [
        # (retryable, is_outcome_unknown)
        (300, (False, False), (False, True)),
        (302, (False, False), (False, True)),
        (303, (False, False), (False, True)),
        (307, (False, False), (False, False)),
        (308, (False, False), (False, False)),
        (400, (False, False), (False, False)),
        (404, (False, False), (False, False)),
        (408, (True, False), (False, True)),
        (425, (True, False), (True, False)),
        (429, (True, False), (True, False)),
        (499, (True, False), (False, True)),
        (500, (True, False), (False, True)),
        (501, (False, False), (False, False)),
        (502, (True, False), (False, True)),
        (503, (True, False), (False, True)),
        (504, (True, False), (False, True)),
    ],
)
def test_what_a_status_means(
    server: Server, status: int, on_get: tuple[bool, bool], on_post: tuple[bool, bool]
) -> None:
    for method, expected in (("GET", on_get), ("POST", on_post)):
        error = fault(spec(f"{server.origin}/status/{status}?say=because", method=method))
        assert str(status) in error.what
        assert error.hint == "it says: because"
        assert (error.retryable, error.is_outcome_unknown) == expected


@pytest.mark.parametrize("num_before", range(190, 202, 2))
def test_no_part_of_a_secret_is_left_where_a_message_is_cut(server: Server, num_before: int) -> None:
    told = {"say": f"{'x' * num_before}{SECRET}"}
    assert SECRET_VALUE[:4] not in str(fault(spec(f"{server.origin}/status/400", params=told)))


@pytest.mark.parametrize(("number", "is_unknown"), [(200, True), (201, True), (202, True), (204, True)])
def test_an_effect_that_succeeds_in_another_way_than_expected_has_acted(
    server: Server, number: int, *, is_unknown: bool
) -> None:
    error = fault(spec(f"{server.origin}/status/{number}", method="POST", expect_status=[203]))
    assert (error.retryable, error.is_outcome_unknown) == (False, is_unknown)
    assert not fault(spec(f"{server.origin}/status/{number}", expect_status=[203])).is_outcome_unknown


def test_retry_after_in_seconds_and_as_a_date(server: Server) -> None:
    assert fault(spec(f"{server.origin}/status/429?retry_after=7")).retry_after_s == 7
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert fault(spec(f"{server.origin}/status/503", params={"retry_after": past})).retry_after_s == 0
    future = fault(spec(f"{server.origin}/status/503", params={"retry_after": "Wed, 21 Oct 2150 07:28:00 GMT"}))
    assert future.retry_after_s is not None
    assert future.retry_after_s > 3600
    assert fault(spec(f"{server.origin}/status/503?retry_after=soon")).retry_after_s is None


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("9" * 400, 1e9), ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9), ("-1", None), ("1e9", None), ("\u0661", None)],
)
def test_a_wait_that_makes_no_sense_is_bounded_or_none(server: Server, header: str, wait_s: float | None) -> None:
    request = spec(f"{server.origin}/status/429", params={"retry_after": header})
    if header.isascii():
        assert fault(request).retry_after_s == wait_s
    assert fault(spec(f"{server.origin}/status/429?retry_after_ms=1500")).retry_after_s == 1.5


def test_a_post_without_effect_is_a_read(server: Server) -> None:
    search = spec(server.origin + "/echo", method="POST", effect=False, json={"q": 1})
    traits = HTTPOperator(Path()).traits(search)
    assert (traits.sharing, traits.is_effect, traits.writes, traits.retries) == (Sharing.RUN, False, False, 2)
    assert "idempotency-key" not in run(search)["json"]["headers"]
    error = fault(spec(server.origin + "/reset", method="POST", effect=False))
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    assert HTTPOperator(Path()).traits(spec("http://a.org/", effect=True)).is_effect


def test_an_effect_whose_answer_is_too_long_may_have_happened(server: Server) -> None:
    error = fault(spec(f"{server.origin}/gzip/5000", max_response_bytes=1000, **EFFECT))
    assert (error.retryable, error.is_outcome_unknown) == (False, True)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://user:${env:SUNDOG_TEST_SECRET}@127.0.0.1/", {}),
        ("http://127.0.0.1:${env:SUNDOG_TEST_SECRET}/", {}),
        ("http://127.0.0.1/", {"X-Key": "${env:SUNDOG_TEST_SECRET}\u00e9"}),
        ("http://127.0.0.1/", {"X-Key": "${env:SUNDOG_TEST_SECRET}\n"}),
    ],
)
def test_a_request_that_cannot_be_written_tells_none_of_its_parts(url: str, headers: dict[str, str]) -> None:
    error = fault(spec(url, headers=headers))
    assert "cannot be sent" in error.what
    assert "s3cr3t" not in f"{error} {error.hint}"
    assert not error.retryable


def test_an_expected_status_is_no_fault(server: Server) -> None:
    assert run(spec(f"{server.origin}/status/404", expect_status=[200, 404]))["status"] == 404
    assert "204" in fault(spec(f"{server.origin}/status/204", expect_status=[200])).what


@pytest.mark.parametrize("path", ["/reset", "/half", "/hang"])
def test_an_answer_that_never_ends(server: Server, path: str) -> None:
    context = Context(timeout_s=0.3)
    on_get = fault(spec(server.origin + path), context)
    on_post = fault(spec(server.origin + path, **EFFECT), context)
    assert (on_get.retryable, on_get.is_outcome_unknown) == (True, False)
    assert (on_post.retryable, on_post.is_outcome_unknown) == (False, True)
    assert len(server.seen) == 2


def test_an_effect_that_was_never_sent_is_known_not_to_have_happened() -> None:
    error = fault(spec(f"http://127.0.0.1:{free_port()}/", **EFFECT))
    assert (error.retryable, error.is_outcome_unknown) == (True, False)


def test_a_host_that_takes_no_connection_leaves_an_effect_unsent() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # fill the queue: the next connection gets no answer
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        error = fault(spec(f"http://127.0.0.1:{full.getsockname()[1]}/", **EFFECT), Context(timeout_s=0.2))
        for each in waiting:
            each.close()
    assert (error.retryable, error.is_outcome_unknown) == (True, False)


def test_a_response_past_the_limit_is_not_read_on(server: Server) -> None:
    assert "more than 1000 bytes" in fault(spec(f"{server.origin}/gzip/5000000", max_response_bytes=1000)).what
    assert len(run(spec(f"{server.origin}/gzip/1000", max_response_bytes=1000))["text"]) == 1000


def test_redirects_are_followed_when_asked_for(server: Server) -> None:
    url = f"{server.origin}/redirect?to=/echo"
    refused = fault(spec(url))
    assert "302" in refused.what
    assert "/echo" in (refused.hint or "")
    assert run(spec(url, follow_redirects=True))["json"]["path"] == "/echo"


def test_redirects_end(server: Server) -> None:
    error = fault(spec(f"{server.origin}/loop", follow_redirects=True))
    assert error.what == "more than 5 redirects"
    assert len(server.seen) == 6


def test_a_redirect_takes_no_secret_to_another_host(server: Server) -> None:
    with Server() as stranger:
        url = f"{server.origin}/redirect?to={stranger.origin}/echo"
        error = fault(spec(url, headers={"X-Key": SECRET}, follow_redirects=True))
        assert "another host" in error.what
        assert stranger.seen == []
        assert run(spec(url, follow_redirects=True))["status"] == 200


def test_a_redirect_takes_no_header_of_the_step_to_another_origin(server: Server) -> None:
    headers = {"X-Api-Key": "literal", "Cookie": "a=b", "Accept": "text/plain"}
    with Server() as stranger:
        origin = server.origin.replace("//", "//user:pass@")
        to_stranger = spec(f"{origin}/redirect?to={stranger.origin}/echo", headers=headers, follow_redirects=True)
        assert run(to_stranger)["status"] == 200
        (seen,) = stranger.seen
        assert seen.headers["accept"] == "text/plain"
        assert {"x-api-key", "cookie", "authorization"}.isdisjoint(seen.headers)
        to_itself = spec(f"{origin}/redirect?to={server.origin}/echo", headers=headers, follow_redirects=True)
        found = run(to_itself)["json"]["headers"]
    assert (found["x-api-key"], found["authorization"]) == ("literal", "Basic dXNlcjpwYXNz")


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "http://[", "http://127.0.0.1:x/"])
def test_a_redirect_to_nowhere_is_a_fault_of_its_row(server: Server, location: str) -> None:
    request = spec(f"{server.origin}/redirect", params={"to": location}, follow_redirects=True)
    assert "redirects to where nothing can be asked" in fault(request).what


@pytest.mark.parametrize(
    ("variable", "value", "url", "is_told"),
    [
        ("SSL_CERT_FILE", "not-there.pem", "https://a.org/", True),
        ("SSL_CERT_FILE", "not-there.pem", "http://a.org/", True),
        ("ALL_PROXY", "gopher://a:1", "http://a.org/", True),
        ("ALL_PROXY", "gopher://a:1", "http://127.0.0.1/", False),
        ("SSL_CERT_FILE", "not-there.pem", "https://{{ row.host }}/", False),
    ],
)
def test_an_environment_that_no_call_can_use_is_told_before_the_run(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, url: str, is_told: bool
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(variable, value)
    found = asyncio.run(HTTPOperator(Path()).inspect(spec(url), Inspection({}, Secrets({}), 1.0)))
    assert [variable in one.what and one.is_fatal for one in found] == [True] * is_told


def test_no_cookies_and_no_credentials_stay(server: Server) -> None:
    # By name: a jar of cookies keeps none of an address in any case.
    origin = server.origin.replace("127.0.0.1", "localhost")

    async def twice() -> Any:
        operator = HTTPOperator(Path())
        first = await operator.run(operator.bind(spec(origin + "/cookie"), {}, {}), Context())
        await operator.run(operator.bind(spec(origin + "/echo"), {}, {}), Context())
        await operator.close()
        return first.value

    assert asyncio.run(twice())["headers"] == {"etag": '"x"'}
    assert "cookie" not in server.seen[-1].headers
    assert server.num_connections == 1


@pytest.mark.parametrize(
    ("body", "content_type", "text", "value"),
    [
        (b"[1]", "text/plain", "[1]", [1]),
        (b"NaN", "application/json", "NaN", None),
        (b"{", "application/json", "{", None),
        (b"1e999", "text/plain", "1e999", None),
        (b"9" * 5000, "text/plain", "9" * 5000, None),
        ("ü".encode("latin-1"), "text/plain; charset=latin-1", "ü", None),
        (b"\xff", "text/plain", "�", None),
        (b"x", "text/plain; charset=klingon", "x", None),
        *((b"[1]", f"application/json; charset={name}", "[1]", [1]) for name in ("idna", "undefined", "punycode")),
        (b"a\\u0041", "text/plain; charset=unicode_escape", "a\\u0041", None),
        (b"[1]", "application/json; charset=base64", "[1]", [1]),
        (b"\xef\xbb\xbf[1]", "application/json", "[1]", [1]),
        (b"\xef\xbb\xbf[1]", "application/json; charset=latin-1", "[1]", [1]),
        ("[1]".encode("utf-16"), "application/json", "[1]", [1]),
        ("ü".encode("latin-1"), 'text/plain; format=flowed; Charset="ISO-8859-1"', "ü", None),
    ],
)
def test_text_and_json_of_an_answer(server: Server, body: bytes, content_type: str, text: str, value: Any) -> None:
    got = run(spec(f"{server.origin}/bytes/{body.hex()}", params={"type": content_type}))
    assert (got["text"], got["json"]) == (text, value)


def test_json_too_deep_to_read_is_text(server: Server) -> None:
    for body in (b'{"a": NaN}', b"[-Infinity]", b"[1e999]"):
        with pytest.raises(NoNormalForm, match="no JSON number"):
            normal_form(run(spec(f"{server.origin}/bytes/{body.hex()}")))
    with pytest.raises(NoNormalForm, match="4300 digits"):
        run(spec(f"{server.origin}/bytes/{(b'[' + b'9' * 5000 + b']').hex()}"))
    with pytest.raises(NoNormalForm, match="nested too deeply"):
        run(spec(f"{server.origin}/deep/100000"))


def test_secrets_reach_the_server_and_nothing_else(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    request = spec(server.origin + "/echo", params={"key": SECRET}, headers={"Authorization": f"Bearer {SECRET}"})
    value = run(request)
    assert server.seen[0].headers["authorization"] == f"Bearer {SECRET_VALUE}"
    assert parse_qs(server.seen[0].path.partition("?")[2]) == {"key": [SECRET_VALUE]}
    assert value["json"]["headers"]["authorization"] == f"Bearer {SECRET}"
    assert value["json"]["path"] == f"/echo?key={SECRET}"
    assert "s3cr3t" not in str(value)
    assert "s3cr3t" not in caplog.text


def test_data_that_spells_a_secret_is_only_data(server: Server) -> None:
    row = {"row": {"text": f"reveal {SECRET}"}}
    value = run(spec(server.origin + "/echo", json={"t": "{{ row.text }}"}, headers={"K": SECRET}, **EFFECT), row)
    assert server.seen[0].headers["k"] == SECRET_VALUE
    assert value["json"]["body"] == '{"t":"reveal ${env:SUNDOG_TEST_SECRET}"}'
    assert SECRET_VALUE not in server.seen[0].body


def test_data_beside_a_secret_may_not_spell_one() -> None:
    mixed = spec("http://a.org/", headers={"K": SECRET + " {{ row.text }}"})
    with pytest.raises(OperatorError, match="spells a secret"):
        HTTPOperator(Path()).bind(mixed, {"row": {"text": SECRET}}, {})
