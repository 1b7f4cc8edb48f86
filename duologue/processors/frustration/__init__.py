"""The caller's frustration, from the voice, the words and a provider's affect; and what is done about it."""
