"""Hostile inputs: `mutation` makes them of valid messages (`samples`), `parsers` and `doors` take them.

`pytest tests/fuzz` takes a fixed number of inputs, always the same. `pytest tests/fuzz --fuzz-seconds 3600`, or the
variable DUOLOGUE_FUZZ_SECONDS, goes on for that long with new seeds. A failure names its seed.
"""
