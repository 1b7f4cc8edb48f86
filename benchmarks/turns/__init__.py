"""Turn-taking on labelled callers: cut-offs, latency, sounds, backchannels, interruptions, echo."""
