"""A git server over HTTPS and SSH on this machine, and Debian's git for images that have none.

Both are reached by Pods at the address that this machine has towards the cluster's nodes.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import shlex
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
from aiohttp import web
from chaos import run
from cluster.rootfs import mirror
from namespaces import Place

import shoal
from shoal.kube import NODES, SECRETS, Client

USER, TOKEN = "reader", "a-token"
IDENTITY = ("-c", "user.name=a test", "-c", "user.email=test@example.com")
SUITE = "bookworm"


class GitServer:
    """Repositories of one folder, private ones among them; what is served says how to log in."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.https_port = self.ssh_port = 0

    @property
    def authority(self) -> str:
        """The certificate that this server's is checked against."""
        return (self.folder / "server.crt").read_text()

    @property
    def private_key(self) -> str:
        return self.key.export_private_key().decode()

    @property
    def known_hosts(self) -> str:
        return f"[{self.address}]:{self.ssh_port} {self.public(self.host_key)}"

    @staticmethod
    def public(key: asyncssh.SSHKey) -> str:
        return str(key.export_public_key().decode().strip())

    def https(self, name: str) -> str:
        return f"https://{self.address}:{self.https_port}/{name}"

    def ssh(self, name: str) -> str:
        return f"ssh://git@{self.address}:{self.ssh_port}/{name}"

    async def commit(self, name: str, files: Mapping[str, str], branch: str = "main") -> str:
        """Commit files on a branch of a repository, which is made if need be; the commit."""
        work, bare = self.folder / f"work-{name}", self.folder / f"{name}"
        if not bare.exists():
            await run("git", "init", "-q", "--bare", "-b", "main", str(bare))
            await run("git", "-C", str(bare), "config", "uploadpack.allowFilter", "true")
            await run("git", "-C", str(bare), "config", "http.receivepack", "false")
            await run("git", "clone", "-q", str(bare), str(work))
        await run("git", "-C", str(work), "checkout", "-q", "-B", branch)
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        await run("git", "-C", str(work), "add", "-A")
        await run("git", "-C", str(work), *IDENTITY, "commit", "-q", "-m", "a change")
        await run("git", "-C", str(work), "push", "-q", "-f", "origin", branch)
        return (await run("git", "-C", str(work), "rev-parse", "HEAD")).strip()

    async def add_submodule(self, name: str, path: str, url: str, source: str) -> str:
        """Add a repository of this server to another one, by the `url` that Pods see."""
        work = self.folder / f"work-{name}"
        allowed = ("-c", "protocol.file.allow=always")
        local = str(self.folder / source)
        await run("git", "-C", str(work), *allowed, "submodule", "--quiet", "add", local, path)
        await run(
            "git", "-C", str(work), "config", "-f", ".gitmodules", f"submodule.{path}.url", url
        )
        return await self.commit(name, {})

    async def _backend(self, request: web.Request) -> web.Response:
        name = request.path.strip("/").split("/")[0]
        header = request.headers.get("Authorization", "")
        expected = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        if name.startswith("private") and header != f"Basic {expected}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        environment = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "PATH": "/usr/bin:/bin",
        }
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(await request.read())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=body)

    async def _session(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Speak the protocol's first version, as a server does that takes no variables."""
        command, path = shlex.split(process.command or "")
        name = path.strip("/")
        assert command == "git-upload-pack" and re.fullmatch(r"[a-z-]+", name)
        child = await asyncio.create_subprocess_exec(
            "git-upload-pack",
            str(self.folder / name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
        process.exit(await child.wait())
        await process.wait_closed()

    async def serve(self, stack: AsyncExitStack) -> None:
        """Listen until the stack is closed."""
        key, certificate = self.folder / "server.key", self.folder / "server.crt"
        await run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=git", "-keyout", str(key)),
            *("-addext", f"subjectAltName=IP:{self.address}", "-out", str(certificate)),
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        self.https_port = await serve_http(stack, self.address, self._backend, context)
        server = await asyncssh.listen(
            self.address,
            0,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.public(self.key)),
            process_factory=self._session,
            encoding=None,
        )
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        self.ssh_port = server.get_port()


@asynccontextmanager
async def git_server(api: Client, folder: Path) -> AsyncIterator[GitServer]:
    """Serve for the length of a block."""
    async with AsyncExitStack() as stack:
        server = GitServer(folder, await address_towards(api))
        await server.serve(stack)
        yield server


async def secret(place: Place, secret_name: str = "git", **data: str) -> shoal.KubernetesSecret:
    names = {"key": "ssh-privatekey", "authority": "ca.crt"}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name},
        "stringData": {names.get(name, name): text for name, text in data.items()},
    }
    await place.api.create(SECRETS, body, place.namespace)
    return shoal.KubernetesSecret(secret_name)


async def serve_http(
    stack: AsyncExitStack,
    address: str,
    handler: Callable[[web.Request], Any],
    context: ssl.SSLContext | None = None,
) -> int:
    """Serve until the stack is closed; the port."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, address, 0, ssl_context=context)
    await site.start()
    return int(runner.addresses[0][1])


async def address_towards(api: Client) -> str:
    """This machine's address as the cluster's nodes see it."""
    nodes = (await api.list(NODES))["items"]
    (node, *_) = [
        a["address"] for a in nodes[0]["status"]["addresses"] if a["type"] == "InternalIP"
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((node, 9))
        return str(probe.getsockname()[0])


async def debian_packages(status: str, packages: tuple[str, ...], folder: Path) -> Path:
    """Download Debian packages and what they need beyond the system with that dpkg status."""
    lists, archives = folder / "lists", folder / "archives"
    for path in (lists, archives):
        (path / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text(status)
    source = mirror()
    assert source, "apt knows no mirror of Debian: run `apt-get update`"
    (folder / "sources.list").write_text(f"deb {source} {SUITE} main\n")
    options = {
        "Dir::State::status": folder / "status",
        "Dir::State::lists": lists,
        "Dir::Cache": folder,
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    apt = ("apt-get", "-qq", *(word for n, v in options.items() for word in ("-o", f"{n}={v}")))
    await run(*apt, "update")
    await run(*apt, "install", "--download-only", "--no-install-recommends", "--yes", *packages)
    listed = []
    for path in sorted(archives.glob("*.deb")):
        data = path.read_bytes()
        fields = await run("dpkg-deb", "--field", str(path))
        digest = hashlib.sha256(data).hexdigest()
        listed.append(f"{fields}Filename: {path.name}\nSize: {len(data)}\nSHA256: {digest}\n")
    (archives / "Packages").write_text("\n".join(listed))
    return archives
