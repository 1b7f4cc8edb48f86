"""The kit for everything that keeps a connection to a vendor."""
