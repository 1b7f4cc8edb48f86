"""`usage_wire`: a response's usage as OpenAI Realtime clients receive it."""

from __future__ import annotations

from typing import Any

from ...frames import Usage


def usage_wire(used: Usage | None) -> dict[str, Any]:
    """Return a usage in the wire's form; None is the usage of a response that has used nothing."""
    used = used or Usage(service="")
    return {
        "total_tokens": used.input_tokens + used.output_tokens,
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "input_token_details": {
            "text_tokens": max(0, used.input_tokens - used.input_audio_tokens - used.input_image_tokens),
            "audio_tokens": used.input_audio_tokens,
            "image_tokens": used.input_image_tokens,
            "cached_tokens": used.cached_tokens,
        },
        "output_token_details": {
            "text_tokens": max(0, used.output_tokens - used.output_audio_tokens),
            "audio_tokens": used.output_audio_tokens,
        },
    }
