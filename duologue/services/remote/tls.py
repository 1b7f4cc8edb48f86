"""`client_ssl_context`: the TLS context of all connections to providers."""

from __future__ import annotations

import importlib.util
import os
import ssl
from functools import cache


def client_ssl_context() -> ssl.SSLContext:
    """Trusts the certificates of the system, or of SSL_CERT_FILE and SSL_CERT_DIR, and `certifi`'s if it is there.

    One for the process: to make it takes 50 ms, and the SDKs would do so for each connection, in the event loop.
    """
    return _made(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _made(file: str | None, directory: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not (file or directory) and importlib.util.find_spec("certifi") is not None:
        import certifi

        context.load_verify_locations(certifi.where())
    return context
