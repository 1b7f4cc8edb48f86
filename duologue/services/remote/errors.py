"""`ConnectionLost`, and the one table of failures that are final, for all vendors."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

from ...errors import BadInput, ConfigurationError, ServiceError, without_credentials

PASSING_STATUSES = frozenset((408, 409, 425, 429))
"""HTTP statuses from 400 to 499 that are not final: time-out, conflict, too early, too many requests."""
REFUSED_CODES = frozenset((3000, 3003))
"""Close codes for "unauthorized" and "forbidden" (the IANA registry of WebSocket close codes)."""
POLICY_CODES = frozenset((1007, 1008))
"""Close codes for malformed data and a violated policy (RFC 6455, 7.4.1): final if the vendor names a final reason."""
FINAL_REASONS = (
    "account_deactivated",
    "api key",
    "api_key",
    "auth_error",
    "billing_hard_limit_reached",
    "forbidden",
    "insufficient_quota",
    "invalid_request_error",
    "model_not_found",
    "permission_denied",
    "quota_exceeded",
    "unauthenticated",
    "unaccepted_terms",
    "unauthorized",
)
"""Parts of vendors' reasons that are final. Compared in lower case."""
PASSING_REASONS = ("session_expired", "inactivity")
"""Parts of vendors' reasons that are never final, because a new connection helps."""


MAX_REASON = 1000
"""The most characters of a vendor's reason that are read."""
_WAIT = re.compile(
    r"(?:again|retry|wait|retrydelay|retry-after)\W{0,4}(?:in|after|for|at least)?\W{0,4}"
    r"((?:\d+(?:\.\d+)?\s*(?:milliseconds?|minutes?|seconds?|mins?|secs?|ms|m|s)\b\s*|"
    r"\d+(?:\.\d+)?m(?=\d))+)",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|mil|m|s)", re.IGNORECASE)
_UNIT_S = {"ms": 0.001, "mil": 0.001, "m": 60.0, "s": 1.0}


def named_wait_s(text: str) -> float:
    """Return the seconds after which a vendor's error message wants another request ("try again in 1m2.5s"), else 0."""
    named = _WAIT.search(text[:MAX_REASON])
    parts = _PART.findall(named[1]) if named is not None else ()
    return sum(float(number) * _UNIT_S[unit.lower()] for number, unit in parts)


class ConnectionLost(ServiceError):
    """A connection has ended, or could not be made.

    `code` is the close code or the HTTP status (0 without one). A `fatal` error is final: another attempt would fail
    in the same way.
    """

    def __init__(self, reason: str, *, code: int = 0, fatal: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(without_credentials(reason), retry_after_s=retry_after_s)  # SDKs quote the address
        self.code = code
        self.fatal = fatal


def fatal(*, status: int = 0, code: int = 0, reason: str = "", setting_up: bool = False) -> bool:
    """Return True if another attempt would fail in the same way.

    `status` is the HTTP status of a refused connection, `code` the close code of an open one, and `reason` the vendor's
    text. While a session is `setting_up`, a close for malformed data or a violated policy is a refusal of the set-up,
    and final.
    """
    reason = reason.lower()
    if 500 <= status < 600 or any(word in reason for word in PASSING_REASONS):
        return False
    if any(word in reason for word in FINAL_REASONS):
        return True
    if 400 <= status < 500 and status not in PASSING_STATUSES:
        return True
    return code in REFUSED_CODES or (setting_up and code in POLICY_CODES)


FINAL_TLS = frozenset(
    (
        "CERTIFICATE_VERIFY_FAILED",
        "DH_KEY_TOO_SMALL",
        "EE_KEY_TOO_SMALL",
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "INVALID_DNS_NAME",
        "NO_CIPHERS_AVAILABLE",
        "NO_PROTOCOLS_AVAILABLE",
        "NO_SHARED_CIPHER",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_UNRECOGNIZED_NAME",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    )
)
"""OpenSSL's names of the failures that have their cause in a certificate or a configuration, and not in the network."""
MAX_CAUSES = 8
"""The most causes of an error that are looked at."""


def final_tls(error: BaseException) -> bool:
    """Return True if an error, or one of its causes, is a failure of TLS that another attempt would not mend."""
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        if isinstance(cause, ssl.SSLError) and (cause.reason or "").replace(" ", "_").upper() in FINAL_TLS:
            return True
        if cause is None:
            return False
        cause = cause.__cause__ or cause.__context__
    return False


def asked_pause_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in the header `Retry-After` of a refusal, None without one and for a date."""
    told = headers.get("Retry-After", "").strip()
    return float(told) if re.fullmatch(r"\d{1,6}", told) else None


def as_lost(error: BaseException) -> ConnectionLost:
    """Return the ConnectionLost that an error of any type stands for.

    A ConfigurationError and a missing package are fatal; an error of an unknown type is not.
    """
    if isinstance(error, ConnectionLost):
        return error
    if isinstance(error, BadInput):
        return ConnectionLost(f"a message of the provider is malformed: {error}")
    if isinstance(error, ServiceError | TimeoutError):
        return ConnectionLost(str(error))
    if isinstance(error, ConfigurationError | ImportError):
        return ConnectionLost(str(error), fatal=True)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ConnectionLost(text, fatal=final_tls(error))
