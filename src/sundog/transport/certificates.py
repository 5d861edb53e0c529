"""The authorities that TLS trusts: one context for each file of them, made when it is named or first needed.

Owns SSL_CERT_FILE, SSL_CERT_DIR and the option `ca_file`. Never switches verification off.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import lru_cache

from sundog.errors import ConfigError


def tls_context(ca_file: str | None, environment: Mapping[str, str]) -> ssl.SSLContext:
    """Return the context for the authorities in `ca_file`; without it those of SSL_CERT_FILE and SSL_CERT_DIR; without
    these the system's and Mozilla's. ConfigError names the file that is not there or holds no certificate."""
    return _context(_named(ca_file, environment))


def check_named_files(ca_file: str | None, environment: Mapping[str, str]) -> None:
    """Raise ConfigError for a file that is named and cannot be used, also where no https address is known yet:
    otherwise the first one, perhaps of a later row, tells of it."""
    if named := _named(ca_file, environment):
        _context(named)


def _named(ca_file: str | None, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if ca_file is not None:
        return (("the option `ca_file`", ca_file),)
    # As OpenSSL has it, SSL_CERT_DIR may be a list like PATH.
    files, folders = [environment.get("SSL_CERT_FILE", "")], environment.get("SSL_CERT_DIR", "").split(os.pathsep)
    named = [("SSL_CERT_FILE", path) for path in files] + [("SSL_CERT_DIR", path) for path in folders]
    return tuple((name, path) for name, path in named if path)


@lru_cache(maxsize=32)
def _context(sources: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(("http/1.1",))
    for source, path in sources:
        _load(context, source, path)
    if not sources:
        import certifi

        # Where Python was not built for this system it finds no authorities of the system.
        context.load_default_certs()
        context.load_verify_locations(certifi.where())
    return context


def _load(context: ssl.SSLContext, source: str, path: str) -> None:
    hint = "name a file of certificates in PEM, or leave it away"
    try:
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder may not be read
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except FileNotFoundError as error:
        raise ConfigError(f"{source} names {path}, which is not there", hint=hint) from error
    except ssl.SSLError as error:
        raise ConfigError(f"{source} names {path}, which holds no certificate in PEM", hint=hint) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source} names {path}, which cannot be read", hint=hint) from error
