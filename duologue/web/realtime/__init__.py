"""The OpenAI Realtime endpoint."""
