"""Turn-taking: voice activity, endpointing, interruption."""
