"""Errors quote no secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import without_credentials
from duologue.services.remote.errors import ConnectionLost

SECRET = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'\""), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ftp://user:sk-1@host/v1 isn't a valid URI", "ftp://host/v1 isn't a valid URI"),
        ("https://user:p@ss/w@host:8/v1", "https://host:8/v1"),
        ("no connection to 'wss://host/v1?key=sk-1&x=y'", "no connection to 'wss://host/v1'"),
        ("is the API key right?", "is the API key right?"),
        ("write to ann@example.org", "write to ann@example.org"),
    ],
)
def test_an_address_is_quoted_without_its_credentials(text: str, expected: str) -> None:
    assert without_credentials(text) == expected
    assert str(ConnectionLost(text)) == expected


@given(SECRET)
def test_no_password_is_left(secret: str) -> None:
    secret = f"sk-{secret}-ks"
    for address in (f"https://user:{secret}@host/v1", f"wss://{secret}@host", f"https://host/v1?key={secret}"):
        assert secret not in without_credentials(f"cannot reach {address!r} now")
