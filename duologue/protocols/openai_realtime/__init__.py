"""The server half of the OpenAI Realtime protocol, without I/O."""
