"""Pipelines on the web: servers that let others talk to them."""
