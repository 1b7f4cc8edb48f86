"""The parts that all tests of native engines need."""

from __future__ import annotations

import ssl

import pytest

from duologue.testing.tls import loopback


@pytest.fixture(autouse=True)
def quick_client(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """SDKs read all certificates of the machine for each client: 20 ms that say nothing here. And no proxies."""
    path = tmp_path_factory.mktemp("tls") / "loopback.pem"
    (certificate,) = loopback().client.get_ca_certs(binary_form=True)
    path.write_text(ssl.DER_cert_to_PEM_cert(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
