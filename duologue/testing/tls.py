"""TLS for the servers of tests: a self-signed certificate for 127.0.0.1, made once per process."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from ..errors import MissingExtra

HOST = "127.0.0.1"


class Loopback(NamedTuple):
    """The TLS contexts of both sides for 127.0.0.1. The client trusts this server only."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@cache
def loopback() -> Loopback:
    """Return the contexts of this process. Raises MissingExtra without the package `cryptography`."""
    certificate, key = _self_signed()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as directory:  # the ssl module takes a server's certificate from files only
        path = Path(directory, "loopback.pem")
        path.touch(mode=0o600)
        path.write_bytes(key + certificate)
        server.load_cert_chain(path)
    return Loopback(server, ssl.create_default_context(cadata=certificate.decode()))


def _self_signed() -> tuple[bytes, bytes]:
    """Return a certificate and its key, as PEM."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MissingExtra("TLS on loopback", "testing", str(error)) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
