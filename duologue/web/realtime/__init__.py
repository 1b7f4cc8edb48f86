"""The endpoint for clients of the OpenAI Realtime API."""
