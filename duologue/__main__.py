"""`python -m duologue`: the `duologue` command."""

from .cli import main

main()
