"""A server that is reached as Neon is: over TLS alone, by SCRAM, at a host that is not local.

127.0.0.2 is this machine's too, but neither the tools nor the package take it for local.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scripts.address import Address
from scripts.binaries import service_account
from scripts.database import connect
from scripts.server import LocalServer
from tests.support.postgres import binaries

HOST = "127.0.0.2"
PASSWORD = "hunter2 secret"  # pragma: allowlist secret

# Nobody but the superuser, who prepares it, gets in without TLS.
HBA = """\
host all postgres 127.0.0.1/32 scram-sha-256
hostssl all all 127.0.0.0/8 scram-sha-256
"""


@dataclass(frozen=True)
class Identity:
    """What a server shows: the files of its certificate and of its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority.

    Parameters
    ----------
    folder : where its files go; `roots` is the one that clients need
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o755)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        made = self._build(self._name, self._key, timedelta(days=1))
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.roots = folder / "roots.crt"
        self._sign(made, self.roots)

    def identity(
        self, *hosts: str, lasts: timedelta = timedelta(days=1), account: Any = None
    ) -> Identity:
        """Return a certificate for names and addresses, whose key is readable by an account."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = "-".join([*hosts, str(lasts.days)])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        names = [
            x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            for host in hosts
        ]
        made = self._build(subject, key, lasts)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        files = Identity(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        self._sign(made, files.certificate)
        files.key.touch(0o600)
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        if account:
            os.chown(files.key, account.pw_uid, account.pw_gid)
        return files

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + lasts)
        )

    def _sign(self, made: x509.CertificateBuilder, file: Path) -> None:
        signed = made.sign(self._key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


@contextmanager
def tls_server(folder: Path, authority: Authority) -> Iterator[LocalServer]:
    """Give a running PostgreSQL 18 that offers nothing without TLS at HOST."""
    identity = authority.identity(HOST, account=service_account())
    hba = folder / "pg_hba.conf"
    hba.write_text(HBA)
    settings = {
        "listen_addresses": f"127.0.0.1,{HOST},127.0.0.3",
        "hba_file": str(hba),
        "ssl": "on",
        "ssl_cert_file": str(identity.certificate),
        "ssl_key_file": str(identity.key),
        "fsync": "off",
    }
    server = LocalServer(folder / "server", binaries=binaries(18), settings=settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def login(server: LocalServer, role: str, database: str) -> Address:
    """Return the address of a database as Neon tells it, and let the role in by its password."""
    with connect(server.superuser, purpose="test") as connection:
        connection.execute(f"alter role {role} login password '{PASSWORD}'")
    where = {"host": HOST, "port": server.superuser.port, "dbname": database}
    return Address({**where, "user": role, "password": PASSWORD}, "the test")


@dataclass
class Impostor:
    """Somebody who ends the client's TLS by a certificate of his own.

    Parameters
    ----------
    port : where clients connect, at HOST
    identity : what he shows them
    server : to where he passes on what he reads; without one he asks for the password
    heard : what he could read
    """

    port: int
    identity: Identity
    server: Address | None
    heard: bytearray = field(default_factory=bytearray)

    def serve(self, listener: socket.socket) -> None:
        """Deceive one client after the other until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    client.settimeout(10)
                    self._deceive(client)

    def _deceive(self, client: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.identity.certificate, self.identity.key)
        client.recv(8)  # asks for TLS
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as near:
            if self.server:
                self._pass_on(near, self.server)
            else:
                near.recv(65536)  # who connects
                near.sendall(b"R" + struct.pack("!II", 8, 3))  # as clear text, please
                self.heard += near.recv(65536)

    def _pass_on(self, near: ssl.SSLSocket, server: Address) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection((server.host, server.port), 10) as upstream:
            upstream.sendall(struct.pack("!II", 8, 80877103))
            assert upstream.recv(1) == b"S"
            with context.wrap_socket(upstream) as far:
                while True:
                    for source in select.select([near, far], [], [], 10)[0]:
                        data = source.recv(65536)
                        if not data:
                            return
                        if source is near:
                            self.heard += data
                        (far if source is near else near).sendall(data)


@contextmanager
def impostor(identity: Identity, server: Address | None = None) -> Iterator[Impostor]:
    """Give somebody who stands between a client and a server, or in a server's place."""
    listener = socket.create_server((HOST, 0))
    running = Impostor(listener.getsockname()[1], identity, server)
    thread = threading.Thread(target=running.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(15)
