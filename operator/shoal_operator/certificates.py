"""The certificate authority that workers trust, and the dispatcher's certificate.

The authority is made once and kept in a Secret of the operator's namespace, because its certificate
stands literally in every worker Pod and must outlive restarts and upgrades. The dispatcher's own
certificate lives a month, in memory only, and is made anew at start and every few days.
The same Secret holds the key of the MACs on Pods and ledger entries.
"""

from __future__ import annotations

import base64
import os
import secrets
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shoal.errors import ApiError
from shoal.kube import SECRETS, Client

from . import names
from .settings import Settings

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=30)
ROTATE_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority's certificate and key (PEM), and the MAC key."""

    certificate: bytes
    key: bytes
    mac_key: bytes

    def leaf(self, server_name: str) -> tuple[bytes, bytes]:
        """Certificate and key (PEM) for `server_name`, valid for a month."""
        issuer = x509.load_pem_x509_certificate(self.certificate)
        issuer_key = serialization.load_pem_private_key(self.key, None)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_name("shoal dispatcher"))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=10))
            .not_valid_after(now + LEAF_LIFE)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]
                critical=False,
            )
            .sign(issuer_key, hashes.SHA256())  # type: ignore[arg-type]
        )
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def make_authority() -> Authority:
    """Make a new authority and MAC key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("shoal authority")
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=10))
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Authority(pem, _pem(key), secrets.token_bytes(32))


async def ensure_authority(api: Client, settings: Settings) -> Authority:
    """Read the authority from its Secret, or make both."""
    name, namespace = settings.authority_secret, settings.namespace
    try:
        return _read(await api.get(SECRETS, name, namespace))
    except ApiError as error:
        if error.status != 404:
            raise
    made = make_authority()
    data = {"ca.crt": made.certificate, "ca.key": made.key, "mac.key": made.mac_key}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": name, "labels": names.ours(settings.instance)},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    try:
        await api.create(SECRETS, body, namespace)
    except ApiError as error:
        if error.status != 409:
            raise
        return _read(await api.get(SECRETS, name, namespace))
    return made


def server_context(authority: Authority, server_name: str) -> ssl.SSLContext:
    """A TLS context that serves a fresh certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    renew(context, authority, server_name)
    return context


def renew(context: ssl.SSLContext, authority: Authority, server_name: str) -> None:
    """Give the context a new certificate; connections that are open keep theirs."""
    certificate, key = authority.leaf(server_name)
    # ssl reads files only; this one exists for a moment, readable by this user alone.
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate + key)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)


def _read(secret: dict[str, object]) -> Authority:
    data = secret.get("data")
    if not isinstance(data, dict) or not {"ca.crt", "ca.key", "mac.key"} <= data.keys():
        meta = secret["metadata"]
        raise RuntimeError(f"the Secret {meta} lacks ca.crt, ca.key or mac.key: delete it")
    decode = base64.b64decode
    return Authority(decode(data["ca.crt"]), decode(data["ca.key"]), decode(data["mac.key"]))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
