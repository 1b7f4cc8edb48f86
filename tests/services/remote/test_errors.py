"""One table of the failures that are final, and the errors that stand for a lost connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import pytest

from duologue.errors import BadInput, ConfigurationError, MissingExtra, check_range
from duologue.services.remote.errors import ConnectionLost, as_lost, asked_pause_s, fatal, named_wait_s
from duologue.services.remote.websocket import websocket_lost


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
def test_a_refusal_at_the_door_is_final(status: int) -> None:
    assert fatal(status=status)


@pytest.mark.parametrize("status", [0, 101, 302, 408, 409, 425, 429, 500, 502, 503, 504])
def test_a_refusal_that_passes_is_not(status: int) -> None:
    assert not fatal(status=status)


@pytest.mark.parametrize(
    ("code", "reason", "setting_up", "final"),
    [
        (1000, "", False, False),
        (1001, "", False, False),
        (1006, "", False, False),
        (1007, "", False, False),
        (1007, "", True, True),
        (1008, "", True, True),
        (1008, "API key not valid. Please pass a valid API key.", False, True),
        (1008, "inactivity", False, False),
        (1011, "NET-0001", False, False),
        (3000, "", False, True),
        (3003, "", False, True),
        (4000, "invalid_request_error.invalid_api_key", False, True),
        (4000, "invalid_request_error.session_expired", False, False),
        (0, "insufficient_quota", False, True),
        (0, "model_not_found", False, True),
    ],
)
def test_closes_and_reasons(code: int, reason: str, setting_up: bool, final: bool) -> None:
    assert fatal(code=code, reason=reason, setting_up=setting_up) is final


def test_a_busy_server_stays_one_whatever_its_page_says() -> None:
    assert fatal(status=429, reason="insufficient_quota")
    assert not fatal(status=503, reason="<h1>forbidden</h1>")


def test_an_sdk_that_gives_a_close_code_as_its_status_is_understood() -> None:
    assert fatal(status=1008, code=1008, reason="API key not valid.")
    assert fatal(status=1007, code=1007, setting_up=True)
    assert not fatal(status=1011, code=1011)


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (ConfigurationError("no voice"), True),
        (MissingExtra("websockets", "remote"), True),
        (ConnectionLost("gone", fatal=True), True),
        (ConnectionLost("gone"), False),
        (TypeError("a string"), False),
        (RuntimeError(), False),
        (BadInput("not JSON"), False),
        (TimeoutError("slow"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_stands_for_a_loss_and_has_a_message(error: Exception, final: bool) -> None:
    lost = as_lost(error)
    assert lost.fatal is final
    assert str(lost)


@dataclass
class Settings:
    speed: float = 1.0


@pytest.mark.parametrize("speed", [0.49, 2.1, float("nan"), float("inf"), "fast", None])
def test_a_range_names_the_field_the_value_and_the_bounds(speed: object) -> None:
    with pytest.raises(ConfigurationError, match=r"speed is .*: it lies between 0.5 and 2"):
        check_range(Settings(speed), speed=(0.5, 2))  # type: ignore[arg-type]


def test_both_bounds_belong_to_a_range() -> None:
    check_range(Settings(0.5), speed=(0.5, 2))
    check_range(Settings(2), speed=(0.5, 2))


def test_failures_of_tls_are_final_unless_the_network_may_be_their_cause() -> None:
    def wrapped(error: Exception) -> Exception:
        outer = OSError("no connection")
        outer.__cause__ = error
        return outer

    broken = ssl.SSLError(1, "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred")
    broken.reason = "UNEXPECTED_EOF_WHILE_READING"
    refused = ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version")
    refused.reason = "TLSV1_ALERT_PROTOCOL_VERSION"
    assert as_lost(ssl.SSLCertVerificationError(1, "certificate has expired")).fatal
    assert as_lost(wrapped(refused)).fatal
    assert websocket_lost(wrapped(ssl.SSLCertVerificationError(1, "self-signed"))).fatal
    assert not as_lost(broken).fatal
    assert not as_lost(wrapped(ConnectionResetError())).fatal


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached. Please try again in 2s.", 2),
        ("Please try again in 1m2.5s. Visit the page.", 62.5),
        ("try again in 20ms", 0.02),
        ("Please retry after 3 seconds", 3),
        ('"retryDelay": "17s"', 17),
        ("Please retry in 44.25s.", 44.25),
        ("try again later", 0),
        ("The limit is 40000 tokens in 60s", 0),
        ("", 0),
    ],
)
def test_the_time_that_a_vendor_names_is_read(text: str, seconds: float) -> None:
    assert named_wait_s(text) == pytest.approx(seconds)


def test_the_pause_of_a_refusal_is_read_in_seconds() -> None:
    assert asked_pause_s({"Retry-After": " 12 "}) == 12
    assert asked_pause_s({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None
    assert asked_pause_s({}) is None
