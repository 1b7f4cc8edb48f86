"""FastRTC's signalling."""
