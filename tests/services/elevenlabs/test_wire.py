"""Keys, addresses, refusals and missing packages: the same for all of ElevenLabs' services."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from duologue.errors import ConfigurationError, MissingExtra
from duologue.services.elevenlabs import ElevenLabsHTTPTTS, ElevenLabsSTT, ElevenLabsTTS
from duologue.services.elevenlabs.wire import http_refusal

SERVICES = (ElevenLabsHTTPTTS, ElevenLabsSTT, ElevenLabsTTS)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_a_missing_key_is_named(service: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", key)
    with pytest.raises(ConfigurationError, match="ELEVENLABS_API_KEY"):
        service()


@pytest.mark.parametrize("service", SERVICES)
def test_the_key_of_the_environment_is_used(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "k")
    service()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("key", ["a b", "schlüssel", "a\x00b"])
def test_a_malformed_key_is_refused_and_not_shown(service: Any, key: str) -> None:
    with pytest.raises(ConfigurationError, match="characters that keys do not have") as caught:
        service(api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("url", ["wss://user:secret@api.elevenlabs.io", "api.elevenlabs.io", "ftp://x"])
def test_an_address_that_is_none_of_http_is_refused(service: Any, url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url is") as caught:
        service(api_key="k", base_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("service", "package"),
    [(ElevenLabsHTTPTTS, "elevenlabs"), (ElevenLabsSTT, "websockets"), (ElevenLabsTTS, "websockets")],
)
def test_a_missing_package_names_the_extra(service: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("duologue.errors.find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtra, match=rf"{package} is not available: pip install 'duologue\[elevenlabs\]'"):
        service(api_key="k")


@pytest.mark.parametrize(
    ("status", "body", "told", "final"),
    [
        (401, {"detail": {"status": "quota_exceeded", "message": "No credit."}}, "quota_exceeded: No credit.", True),
        (400, {"detail": {"status": "voice_not_found", "message": "No voice."}}, "voice_not_found: No voice.", True),
        (429, {"detail": {"status": "too_many_concurrent_requests"}}, "too_many_concurrent_requests", False),
        (429, {"detail": {"type": "rate_limit_error", "code": "concurrent_limit_exceeded"}}, "concurrent_limit", False),
        (429, {"detail": {"status": "quota_exceeded"}}, "quota_exceeded", True),
        (
            422,
            {"detail": [{"loc": ["body", "text"], "msg": "too long"}]},
            "validation_error: body.text: too long",
            True,
        ),
        (422, {"detail": [7]}, "validation_error", True),
        (404, {"detail": "Not Found"}, "HTTP 404 Not Found", True),
        (503, {"detail": {"status": "system_busy"}}, "system_busy", False),
        (500, [], "HTTP 500", False),
        (500, None, "HTTP 500", False),
        (500, {"detail": None}, "HTTP 500", False),
    ],
)
@pytest.mark.parametrize("encoded", [True, False])
def test_a_refusal_has_the_vendors_code(status: int, body: Any, told: str, final: bool, encoded: bool) -> None:
    error = http_refusal(status, json.dumps(body).encode() if encoded else body)
    assert told in str(error)
    assert (error.code, error.fatal) == (status, final)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"detail": {"status": 7}}'])
def test_a_refusal_that_is_not_json_has_its_status(body: bytes) -> None:
    assert "HTTP 502" in str(http_refusal(502, body))
