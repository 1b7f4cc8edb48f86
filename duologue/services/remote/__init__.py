"""The kit for services with a connection to a vendor: see docs/vendors.md.

`RemoteSTT`, `TurnHoldingSTT` and `RemoteTTS` are the bases; a vendor gives each a dialect and a wire.
"""
