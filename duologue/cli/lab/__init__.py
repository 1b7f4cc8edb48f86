"""`duologue lab`: speech services measured on the same clips and texts, and turn-taking on the same callers."""
