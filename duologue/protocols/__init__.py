"""The server halves of vendors' protocols, without I/O."""
