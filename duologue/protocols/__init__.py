"""The server halves of vendors' protocols: pure, without I/O."""
