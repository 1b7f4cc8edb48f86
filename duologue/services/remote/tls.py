"""`client_ssl_context`: the TLS context of all connections to vendors."""

from __future__ import annotations

import importlib.util
import os
import ssl
from functools import cache


def client_ssl_context() -> ssl.SSLContext:
    """Return the context that trusts the system's certificates, or those of SSL_CERT_FILE and SSL_CERT_DIR.

    The certificates of `certifi` are trusted too if that package is installed. The process has one context, because
    making one takes 50 ms, and the SDKs would make one for each connection in the event loop.
    """
    return _client_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _client_context(file: str | None, directory: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not (file or directory) and importlib.util.find_spec("certifi") is not None:
        import certifi

        context.load_verify_locations(certifi.where())
    return context
