"""Scripted vendors: servers that speak a vendor's wire protocol on loopback."""
