"""A certificate authority of the tests' own, and a server's certificate from it, made by the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Authority:
    """`ca_file`: what a client is to trust. `names`: those that the server's certificate has."""

    ca_file: Path
    chain_file: Path
    key_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain_file, self.key_file)
        return context


def make_authority(folder: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> Authority:
    """Skips where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is not here")
    folder.mkdir(parents=True, exist_ok=True)
    _run(folder, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Authority",
         "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
         "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _run(folder, "req", *_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "extensions").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
    _run(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
         "server.pem", "-days", "30", "-extfile", "extensions")  # fmt: skip
    return Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def _run(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
