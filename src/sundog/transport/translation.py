"""The meaning of aiohttp's exceptions.

Owns the words for them, none of which holds an address or a credential. Never raises.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from sundog.transport.faults import (
    BadAddress,
    Broken,
    ConnectTimeout,
    Damaged,
    ProxyFault,
    Silent,
    TransportFault,
    Unreachable,
    Untrusted,
)
from sundog.transport.proxies import Proxy

CA_HINT = (
    "name the file of its authority in the environment variable SSL_CERT_FILE, or in `ca_file` of the engine or step"
)
# OpenSSL's numbers (X509_V_ERR_...).
_HINTS = {
    9: "the clock of this machine or the server's certificate is wrong",
    10: "the server needs a new certificate",
    18: CA_HINT,
    19: CA_HINT,
    20: CA_HINT,
    21: CA_HINT,
    62: "use a name that the certificate has",
    64: "use a name that the certificate has",
}


def transport_fault_of(error: Exception, proxy: Proxy | None) -> TransportFault | None:
    """Return the fault that `error` is; None for what is none of the transport's."""
    match error:
        case TransportFault():
            return error
        case aiohttp.ClientProxyConnectionError():
            return _proxy_fault(f"the proxy is not reachable: {_reason(error.os_error)}", proxy)
        case aiohttp.ClientHttpProxyError():
            return _proxy_fault(f"the proxy refused: {error.status} {error.message}", proxy)
        case aiohttp.ClientConnectorCertificateError():
            return _untrusted(error.certificate_error)
        case aiohttp.ClientConnectorSSLError():
            return _tls_fault(error.os_error)
        case aiohttp.ClientConnectorDNSError() | aiohttp.ClientConnectorError(os_error=socket.gaierror()):
            return Unreachable("no address is known for its host")
        case aiohttp.ClientConnectorError():
            return Unreachable(_reason(error.os_error))
        case aiohttp.ConnectionTimeoutError():
            return ConnectTimeout("no connection in time")
    return _later_fault(error, proxy)


def _later_fault(error: Exception, proxy: Proxy | None) -> TransportFault | None:
    """Return the same for what happens after there is a connection."""
    match error:
        case aiohttp.ServerTimeoutError() | asyncio.TimeoutError():
            return Silent("nothing came in time")
        case aiohttp.ServerDisconnectedError():
            return Broken("the connection was closed without an answer", is_silent=isinstance(error.message, str))
        case ContentEncodingError():
            return Damaged("its body is not compressed as it says")
        case aiohttp.ClientPayloadError():
            is_damaged = isinstance(error.__cause__, ContentEncodingError)
            return Damaged("its body is damaged") if is_damaged else Broken("the connection ended in the answer")
        case aiohttp.ClientResponseError():
            return Damaged("what came is no HTTP")
        case aiohttp.ClientOSError() | OSError():
            return Broken(f"the connection broke: {_reason(error)}", is_silent=True)
        case aiohttp.ClientConnectionError():
            return Broken("the connection was closed")
        case aiohttp.InvalidURL() | ValueError():
            return BadAddress("the request cannot be written")
    if proxy is not None and proxy.is_socks and type(error).__module__.startswith(("python_socks", "aiohttp_socks")):
        return _proxy_fault("the SOCKS proxy is not reachable or refuses", proxy)
    return None


def _proxy_fault(what: str, proxy: Proxy | None) -> ProxyFault:
    return ProxyFault(what, hint=None if proxy is None else f"it is named by {proxy.source}")


def _untrusted(error: Exception) -> Untrusted:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted("the server's certificate does not fit", hint=CA_HINT)
    message = " ".join(str(error.verify_message).split())
    return Untrusted(f"its certificate is not trusted: {message}", hint=_HINTS.get(error.verify_code))


def _tls_fault(error: OSError) -> Untrusted:
    if getattr(error, "reason", None) in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return Untrusted("there is no TLS at this port", hint="write http:// if the server has none")
    return Untrusted(f"TLS failed: {getattr(error, 'reason', None) or type(error).__name__}")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else type(error).__name__
