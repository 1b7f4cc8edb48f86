"""`duologue lab`: speech-to-text and text-to-speech services measured on the same clips and texts."""
