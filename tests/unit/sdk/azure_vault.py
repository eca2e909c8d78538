"""A key vault on the loopback: the part of Azure's protocol that reading a secret takes, over TLS.

Its host is `https://<name>.vault.localhost:<port>`; nothing of Azure is behind it.
"""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "a-token-of-the-fake-login"
TENANT = "11111111-2222-3333-4444-555555555555"


class FakeCredential:
    """Stands for DefaultAzureCredential: gives one token, and notes for what it was asked."""

    def __init__(self) -> None:
        self.scopes: list[str] = []

    def __enter__(self) -> FakeCredential:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_token(self, *scopes: str, **_: Any) -> Any:
        from azure.core.credentials import AccessToken

        self.scopes += scopes
        return AccessToken(TOKEN, 4_000_000_000)


class Vault:
    """The secrets by name, each with its version and value."""

    def __init__(self, port: int) -> None:
        self.name = "team"
        self.port = port
        self.secrets: dict[str, tuple[str, str]] = {}

    @property
    def host(self) -> str:
        return f"{self.name}.vault.localhost"

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"


def handler(vault: Vault) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            assert parse_qs(url.query)["api-version"], self.path
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                challenge = (
                    f'Bearer authorization="https://login.localhost/{TENANT}", '
                    f'resource="https://vault.localhost:{vault.port}"'
                )
                return self.answer(401, {"error": {"code": "Unauthorized"}}, challenge)
            name = url.path.removeprefix("/secrets/").partition("/")[0]
            if name not in vault.secrets:
                error = {"code": "SecretNotFound", "message": f"{name} was not found in this vault"}
                return self.answer(404, {"error": error})
            version, value = vault.secrets[name]
            found = {"value": value, "id": f"{vault.url}/secrets/{name}/{version}"}
            return self.answer(200, {**found, "attributes": {"enabled": True}})

        def answer(self, status: int, body: dict[str, Any], challenge: str = "") -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            if challenge:
                self.send_header("WWW-Authenticate", challenge)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Vault, Path]]:
    """Serve a vault; yield it and the file of the certificate that it shows."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    vault = Vault(server.server_address[1])
    server.RequestHandlerClass = handler(vault)
    certificate, key = certify(folder, vault.host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield vault, certificate
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def certify(folder: Path, host: str) -> tuple[Path, Path]:
    """Make a certificate for `host` that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "vault.pem", folder / "vault.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private
