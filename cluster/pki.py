"""Keys and certificates of the embedded cluster, made with openssl, valid for a year.

One authority signs every server and client; a client's identity is its certificate's subject, as
Kubernetes reads it (CN is the user, O the groups).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from cluster import commands

DAYS = "365"


@dataclass(frozen=True)
class Identity:
    """A key pair with a certificate: `subject` in openssl's form, names for servers."""

    name: str
    subject: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pki:
    """The folder of keys and certificates."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that all others are signed by."""
        return self.folder / "ca.crt"

    @property
    def token_key(self) -> Path:
        """Signs service account tokens."""
        return self.folder / "token.key"

    @property
    def token_public(self) -> Path:
        """Verifies service account tokens."""
        return self.folder / "token.pub"

    def certificate(self, name: str) -> Path:
        """The certificate of that identity."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Its private key."""
        return self.folder / f"{name}.key"

    def make(self, identities: list[Identity]) -> None:
        """Make everything afresh."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        authority_key = self.key("ca")
        commands.run(
            [
                *("openssl", "req", "-x509", *curve, "-keyout", authority_key),
                *("-out", self.authority, "-days", DAYS, "-subj", "/CN=shoal-cluster"),
            ]
        )
        for identity in identities:
            request = self.folder / f"{identity.name}.csr"
            extension = self.folder / f"{identity.name}.ext"
            extension.write_text(extensions(identity))
            subject = ("-subj", identity.subject)
            keyout = ("-keyout", self.key(identity.name))
            commands.run(["openssl", "req", "-new", *curve, *keyout, "-out", request, *subject])
            commands.run(
                [
                    *("openssl", "x509", "-req", "-in", request, "-days", DAYS),
                    *("-CA", self.authority, "-CAkey", authority_key, "-CAcreateserial"),
                    *("-extfile", extension, "-out", self.certificate(identity.name)),
                ]
            )
            request.unlink()
            extension.unlink()
        commands.run(["openssl", "genrsa", "-out", self.token_key, "2048"])
        commands.run(
            ["openssl", "rsa", "-in", self.token_key, "-pubout", "-out", self.token_public]
        )

    def kubeconfig(self, name: str, server: str) -> str:
        """A kubeconfig that carries its certificates, so that it may be copied. JSON is YAML."""
        user = {
            "client-certificate-data": _base64(self.certificate(name)),
            "client-key-data": _base64(self.key(name)),
        }
        cluster = {"server": server, "certificate-authority-data": _base64(self.authority)}
        context = {"cluster": "shoal", "user": name, "namespace": "default"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "shoal", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "shoal", "context": context}],
            "current-context": "shoal",
        }
        return json.dumps(config, indent=1) + "\n"


def extensions(identity: Identity) -> str:
    """What openssl writes into the certificate beside its subject."""
    lines = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature",
        "extendedKeyUsage=clientAuth,serverAuth",
    ]
    if identity.names:
        kinds = (f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in identity.names)
        lines.append("subjectAltName=" + ",".join(kinds))
    return "\n".join(lines) + "\n"


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit()


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
