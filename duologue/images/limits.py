"""`ImageLimits`: the images that an engine takes, as data. `ImageRules`: the images that an application takes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ..errors import ConfigurationError, check_limits


class ImageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The images that a model takes. Others are converted and made smaller before they are sent.

    The defaults are those of OpenAI's vision models: JPEG, PNG, WebP and GIF, scaled to a square of 2,048 pixels
    before the model looks at them (platform.openai.com/docs/guides/images, November 2026). The 4 MiB are ours: a
    request's budget for images.
    """

    types: frozenset[str] = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
    """The MIME types. `image/jpeg` must be one: images are converted to it."""
    max_bytes: int = 4 * 1024 * 1024
    """The largest number of bytes of an image."""
    max_side: int = 2_048
    """The largest width and height, in pixels."""

    def __post_init__(self) -> None:
        if "image/jpeg" not in self.types:
            raise ConfigurationError("an engine's image types must include image/jpeg, to which others are converted")
        if self.max_bytes < 1024 or self.max_side < 16:
            raise ConfigurationError("an engine's images have at least 1,024 bytes and sides of at least 16 pixels")


DEFAULT_IMAGES = ImageLimits()


def common_limits(limits: Iterable[ImageLimits | None]) -> ImageLimits | None:
    """Return the limits of images that all of several models take, None if one of them takes none."""
    first, *others = limits
    if first is None:
        return None
    types, max_bytes, max_side = first.types, first.max_bytes, first.max_side
    for each in others:
        if each is None:
            return None
        types &= each.types
        max_bytes, max_side = min(max_bytes, each.max_bytes), min(max_side, each.max_side)
    return ImageLimits(types=types, max_bytes=max_bytes, max_side=max_side)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """The limits of images from outside: bytes, pixels, time, and the addresses from which they are fetched.

    Raises ConfigurationError for a limit that is not positive, and for a network that is malformed.
    """

    max_bytes: int = 20 * 1024 * 1024
    """Bytes of an image before it is converted. A longer one is refused."""
    max_pixels: int = 50_000_000
    """Pixels of an image, as its header gives them. A larger one is refused before it is decoded: 50 million pixels
    need 200 MB."""
    deadline_s: float = 10.0
    """Seconds within which an image is fetched and converted. After that it is refused."""
    max_redirects: int = 3
    networks: tuple[str, ...] = ()
    """Networks from which images are fetched although they are not public, for example "10.1.0.0/16"."""

    def __post_init__(self) -> None:
        for network in self.networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ConfigurationError(f"networks: {network!r} is not a network: {error}") from error
        check_limits(_Positive(self.max_bytes, self.max_pixels, self.deadline_s, self.max_redirects + 1))


@dataclass(frozen=True, slots=True)
class _Positive:
    max_bytes: int
    max_pixels: int
    deadline_s: float
    max_redirects: int


DEFAULT_RULES = ImageRules()
