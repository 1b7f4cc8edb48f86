"""Replays of recorded calls."""
