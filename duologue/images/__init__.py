"""Images for the caller's side of a conversation, from files, addresses and bytes: checked, upright, and small enough.

    await session.send(await images.from_file("receipt.jpg"))
    await session.send(await images.from_url("https://example.com/cat.webp"))

Engines do the same with each `UserImage` that they receive. Reading and converting runs in threads of its own. The
extra `vision` brings the packages: Pillow, and httpx for addresses.
"""

from __future__ import annotations

import os
import stat
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import anyio
import msgspec

from ..errors import BadInput, DeadlineExceeded, public_address
from ..frames import UserImage
from ..processors.kernel.threads import Pool
from .decoding import convert
from .fetching import fetch, too_long
from .kinds import check_declared, kind_of_name, readable_kind
from .limits import DEFAULT_IMAGES, DEFAULT_RULES, ImageLimits, ImageRules

__all__ = ["ImageLimits", "ImageRules", "from_bytes", "from_file", "from_url", "ready_image"]

IMAGES = Pool("images", 2, max_waiting=100)
"""Threads for converting images: each may need the memory of `ImageRules.max_pixels`."""
FILES = Pool("image files", 4, max_waiting=100)
"""Threads for reading images from disks. One that hangs holds up other files at most."""


async def from_file(
    path: str | os.PathLike[str], *, limits: ImageLimits = DEFAULT_IMAGES, rules: ImageRules = DEFAULT_RULES
) -> UserImage:
    """Return the image in a file. Its content tells its type; a suffix that is not an image's is refused.

    Raises BadInput for a file that cannot be read or is not an image, and as `ready_image` does.
    """
    path = Path(path)
    declared = kind_of_name(path.name)
    check_declared(declared, path.name)

    def read() -> bytes:
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise BadInput(f"the image {path.name!r} cannot be read: it is not a file")
            if found.st_size > rules.max_bytes:
                raise too_long(found.st_size, rules, path.name)
            with path.open("rb") as file:
                return file.read(rules.max_bytes + 1)
        except OSError as error:
            raise BadInput(f"the image {path.name!r} cannot be read: {error.strerror}") from error

    with anyio.move_on_after(rules.deadline_s) as reading:
        data = await FILES.run(read, label="read")
    if reading.cancelled_caught:
        raise DeadlineExceeded(f"the image {path.name!r} was not read within {rules.deadline_s:g} s")
    return await ready_image(UserImage(image=data, mime=declared, name=path.name), limits=limits, rules=rules)


async def from_bytes(
    data: bytes,
    mime: str = "",
    *,
    name: str = "",
    limits: ImageLimits = DEFAULT_IMAGES,
    rules: ImageRules = DEFAULT_RULES,
) -> UserImage:
    """Return the image in some bytes. `mime` is its declared type, "" without one. Raises as `ready_image` does."""
    return await ready_image(UserImage(image=bytes(data), mime=mime, name=name), limits=limits, rules=rules)


async def from_url(url: str, *, limits: ImageLimits = DEFAULT_IMAGES, rules: ImageRules = DEFAULT_RULES) -> UserImage:
    """Return the image at an address, fetched from a public server. Raises as `ready_image` does."""
    return await ready_image(UserImage(url=url), limits=limits, rules=rules)


async def ready_image(
    frame: UserImage,
    *,
    limits: ImageLimits = DEFAULT_IMAGES,
    rules: ImageRules = DEFAULT_RULES,
    room: AbstractAsyncContextManager[object] | None = None,
    get: Callable[[str, ImageRules], Awaitable[tuple[bytes, str]]] = fetch,
) -> UserImage:
    """Return the frame with an image that a model takes: fetched, checked, upright, one frame, within the limits.

    It is converted within `room`, by which a call has one thread at a time, whatever else it has fetched. `get` returns
    the bytes and the type at an address.

    Raises BadInput for an image that is damaged, too long, too large or of another type, or an address that is refused;
    DeadlineExceeded if it takes longer than `rules.deadline_s`; ServiceError if a server cannot be reached;
    MissingExtra without the packages; PoolFull if too many images wait.
    """
    check_image(frame, rules)
    try:
        with anyio.fail_after(rules.deadline_s):
            data, declared = frame.image, frame.mime
            if not data:
                data, declared = _in_url(frame.url, rules) or await get(frame.url, rules)
            async with room or nullcontext():
                found = await IMAGES.run(convert, data, declared, limits, rules, _what(frame), label="convert")
    except TimeoutError as error:
        what = f"the image at {public_address(frame.url)[:200]}" if frame.url else _what(frame)
        raise DeadlineExceeded(f"{what} was not ready within {rules.deadline_s:g} s") from error
    return msgspec.structs.replace(frame, image=found.data, mime=found.mime, width=found.width, height=found.height)


def _what(frame: UserImage) -> str:
    return repr(frame.name[:100]) if frame.name else "the image"


def _in_url(url: str, rules: ImageRules) -> tuple[bytes, str] | None:
    """Return the bytes and the type in a data URL, None for another one."""
    if not url.startswith("data:"):
        return None
    head, comma, text = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BadInput(f"the image's data URL is not base64: {url[:60]!r}")
    if len(text) > rules.max_bytes // 3 * 4 + 4:
        raise too_long(len(text) * 3 // 4, rules)
    try:
        return b64decode(text, validate=True), head[len("data:") : -len(";base64")]
    except ValueError as error:
        raise BadInput(f"the image's data URL is not base64: {error}") from error


def check_image(frame: UserImage, rules: ImageRules = DEFAULT_RULES) -> None:
    """Raise BadInput for an image that is refused without a look at its content: no image, too long, another type."""
    if frame.image:
        if len(frame.image) > rules.max_bytes:
            raise too_long(len(frame.image), rules, _what(frame))
        readable_kind(frame.image, frame.mime, _what(frame))
    elif not frame.url:
        raise BadInput("the image is empty")
