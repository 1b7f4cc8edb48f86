"""`image_of`: an image of an OpenAI Realtime client."""

from __future__ import annotations

import re
from base64 import b64decode

from ...frames import UserImage
from ...images.kinds import READABLE
from ...protocols.openai_realtime.refusal import Refusal

_IMAGE = re.compile(r"data:([a-z]+/[a-z+.-]+);base64,", re.ASCII)


def image_of(url: str, where: str, log_id: str = "") -> UserImage:
    """Return an image that a client gives by its address or as a data URL. Raises Refusal."""
    if url.startswith(("https://", "http://")):
        return UserImage(url=url, id=log_id)
    found = _IMAGE.match(url)
    if found is None or found[1] not in READABLE:
        message = f"An image is a web address or a data URL with base64 of {', '.join(sorted(READABLE))}."
        raise Refusal("invalid_value", message, where)
    try:
        image = b64decode(url[found.end() :], validate=True)
    except ValueError as error:
        raise Refusal("invalid_value", "The image is not base64.", where) from error
    if not image:
        raise Refusal("invalid_value", "The image is empty.", where)
    return UserImage(image=image, mime=found[1], id=log_id)
