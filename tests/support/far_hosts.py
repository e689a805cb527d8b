"""Web servers on this machine that stand for hosts on the network: HTTPS under a CA of their own, and plain HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import ipaddress
import socket
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

NAMES = ("allowed.test", "*.allowed.test", "other.test")
ADDRESS = "127.0.0.2"
"""Not the one that programs leave the proxy out for."""


@dataclass
class FarHosts:
    """Where they are, and what they were asked."""

    tls_port: int
    http_port: int
    ca: str
    """PEM."""
    asked: list[str] = field(default_factory=list[str])
    """`METHOD HOST PATH` of every request, in order."""


@asynccontextmanager
async def far_hosts() -> AsyncGenerator[FarHosts]:
    """Run both until the block ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ca = make_certificates(folder)
        tls, plain = _socket(), _socket()
        hosts = FarHosts(tls.getsockname()[1], plain.getsockname()[1], ca)
        async with _serving(_app(hosts), tls, folder), _serving(_app(hosts), plain, None):
            yield hosts


def _app(hosts: FarHosts) -> Starlette:
    async def answer(request: Request) -> Response:
        body = await request.body()
        hosts.asked.append(f"{request.method} {request.headers['host']} {request.url.path}")
        told = {"host": request.headers["host"], "path": str(request.url.path), "query": request.url.query}
        digest = hashlib.sha256(body).hexdigest()
        return JSONResponse({**told, "bytes": len(body), "sha256": digest, "headers": sorted(request.headers.keys())})

    async def much(request: Request) -> Response:
        size = int(request.path_params["size"])

        async def pieces() -> AsyncGenerator[bytes]:
            for at in range(0, size, 65_536):
                yield b"x" * min(65_536, size - at)

        return StreamingResponse(pieces(), media_type="application/octet-stream")

    methods = ["GET", "POST", "PUT", "HEAD"]
    return Starlette(routes=[Route("/much/{size:int}", much), Route("/{path:path}", answer, methods=methods)])


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # Signals are the test runner's.
        yield


@asynccontextmanager
async def _serving(app: Starlette, listener: socket.socket, folder: Path | None) -> AsyncGenerator[None]:
    config = uvicorn.Config(
        app,
        log_level="critical",
        lifespan="off",
        ssl_certfile=str(folder / "cert.pem") if folder else None,
        ssl_keyfile=str(folder / "key.pem") if folder else None,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task


def _socket() -> socket.socket:
    made = socket.socket()
    made.bind((ADDRESS, 0))
    return made


def make_certificates(folder: Path) -> str:
    """A CA and a certificate of it for all names, in PEM files; the CA's PEM."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA")])
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
    names.append(x509.IPAddress(ipaddress.ip_address(ADDRESS)))

    def begun(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(days=1))
        return builder.not_valid_after(now + dt.timedelta(days=1))

    ca = begun(ca_name, ca_key.public_key()).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca_certificate = ca.sign(ca_key, hashes.SHA256())
    leaf = begun(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "far")]), key.public_key())
    certificate = leaf.add_extension(x509.SubjectAlternativeName(names), critical=False).sign(ca_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca_certificate.public_bytes(pem).decode()
