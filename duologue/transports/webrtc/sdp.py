"""Checks of an offer, an SDP text, that aiortc does not make."""

from __future__ import annotations

import re


def has_bundle(sdp: str) -> bool:
    """Return False if the BUNDLE group of an offer begins with a section that it lacks: aiortc has no transport then.

    It would notice that in a task of its own, whose exception nobody retrieves.
    """
    session, *sections = re.split(r"^m=", sdp, flags=re.MULTILINE)
    first = re.search(r"^a=group:BUNDLE[ \t]+(\S+)", session, re.MULTILINE)
    mids = (re.findall(r"^a=mid:[ \t]*(\S+)", section, re.MULTILINE)[-1:] for section in sections if _is_media(section))
    return first is None or [first[1]] in mids


def has_fingerprint(sdp: str) -> bool:
    """Return True if the offer, or each of its audio sections, names its certificate: DTLS needs it."""
    session, *sections = (
        (part, re.search(r"^a=fingerprint:[ \t]*\S+[ \t]+\S", part, re.MULTILINE) is not None)
        for part in re.split(r"^m=", sdp, flags=re.MULTILINE)
    )
    return session[1] or all(named for section, named in sections if section.startswith("audio "))


def fingerprints(sdp: str) -> set[str]:
    """Return the certificate fingerprints of an offer. They differ between clients."""
    return {found.strip().lower() for found in re.findall(r"^a=fingerprint:(.+)$", sdp, re.MULTILINE)}


def _is_media(section: str) -> bool:
    return section.startswith(("audio ", "video ", "application "))
