"""The addresses from which images are fetched: public addresses, and networks that the application names."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network

_REFUSED: tuple[IPv4Network | IPv6Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            # IPv4 beyond `is_global`, which differs between versions of Python
            "0.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's metadata
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "224.0.0.0/3",
            # IPv6: transition mechanisms carry an IPv4 address, which may be a private one
            "2001::/23",
            "2001:db8::/32",
            "2002::/16",
            "3fff::/20",
        ),
    )
)
"""Networks that are refused whatever the standard library says. Source: IANA's registries of special addresses."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # outside are loopback, mapped IPv4, NAT64, private and link-local addresses


def is_public_ip(address: str, also: Sequence[str] = ()) -> bool:
    """Return True if an IP address is public, or in one of the networks `also`. Names and zones are not."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(ip in network for network in map(ipaddress.ip_network, also) if network.version == ip.version):
        return True
    if isinstance(ip, IPv6Address) and (ip.scope_id or ip not in _GLOBAL_UNICAST):
        return False
    if any(ip in network for network in _REFUSED if network.version == ip.version):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
