"""Calls over WebRTC."""
