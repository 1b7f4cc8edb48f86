"""Scripted vendors: servers that speak a vendor's wire protocol on loopback. They need the extra `testing`."""

from ...errors import check_installed

check_installed("testing", "websockets")
