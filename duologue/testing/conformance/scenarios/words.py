"""Texts of the models in the scenarios."""

LONG = (
    "Once upon a time there was a king who had three daughters, and each of them was wiser than the other two. "
    "One day he called them to his table and asked which of them loved him most of all."
)
"""About twelve seconds of speech."""
