"""Turn-taking measured on labelled callers, in virtual time: `duologue lab turns` and `benchmarks.turns`.

`scripts` reads the callers' lines, `voices` speaks them, `rooms` puts them into noise, rooms and telephones, `play` has
whole pipelines listen to them, and `figures` counts.
"""
