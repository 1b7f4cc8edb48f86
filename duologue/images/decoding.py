"""Converts an image with Pillow into one that a model takes. This blocks: call it in a thread."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import BadInput, MissingExtra
from .kinds import READABLE, readable_kind
from .limits import ImageLimits, ImageRules

if TYPE_CHECKING:
    from PIL.Image import Image

QUALITIES = (90, 80, 65, 50)
"""The qualities of JPEG that are tried in turn, before the image is made smaller."""
SHRINK = 0.7
_ORIENTATION = 0x0112  # of EXIF
_BARE = (
    frozenset(("adobe", "adobe_transform", "aspect", "background", "chromaticity", "compression", "dpi", "duration"))
    | frozenset(("gamma", "icc_profile", "interlace", "jfif", "jfif_density", "jfif_unit", "jfif_version", "loop"))
    | frozenset(("progression", "progressive", "srgb", "timestamp", "version"))
)
"""The entries of `Image.info` that say nothing of the origin of an image."""
_BARE_SEGMENTS = {"APP0": b"JFIF", "APP2": b"ICC_PROFILE", "APP14": b"Adobe"}
"""The segments of a JPEG that say nothing of its origin, and how they begin."""
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82", "GIF": b";"}
_PLAIN_MODES = frozenset({"L", "RGB"})
_FORMATS = {mime: [name.upper()] for mime, name in READABLE.items()} | {"image/jpeg": ["JPEG", "MPO"]}


class Converted(NamedTuple):
    """An image that a model takes. `width` and `height` are in pixels."""

    data: bytes
    mime: str
    width: int
    height: int


def convert(data: bytes, declared: str, limits: ImageLimits, rules: ImageRules, what: str = "the image") -> Converted:
    """Return an image as a model takes it: upright, one frame, eight bits, RGB or grey, within the limits.

    An image that fits already is returned as it is, unless it carries more than its pixels and their colours: EXIF, XMP
    or IPTC data, comments and the like may tell where it was taken. Transparent parts become white. Raises BadInput for
    anything but a whole image of a type that is read, and for one with too many pixels; MissingExtra without
    Pillow if the image cannot be passed on as it is, and without pillow-heif for HEIC.
    """
    mime = readable_kind(data, declared, what)
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        if mime in limits.types and len(data) <= limits.max_bytes:
            return Converted(data, mime, 0, 0)
        raise MissingExtra("Pillow, which converts images,", "vision") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the number of pixels is checked here; odd EXIF data does not matter
            with _opened(data, mime, what) as image:
                pixels = image.width * image.height
                if pixels > rules.max_pixels:
                    raise BadInput(
                        f"{what} has {image.width} × {image.height} pixels: at most {rules.max_pixels:,} are taken"
                    )
                return _as_taken(image, data, mime, limits)
    except (BadInput, MissingExtra):
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, before this one is checked
        raise BadInput(f"{what} has too many pixels: at most {rules.max_pixels:,} are taken") from error
    except UnidentifiedImageError as error:
        raise BadInput(f"{what} is damaged, or of a kind of {READABLE[mime]} that is not read") from error
    except Exception as error:  # Pillow's decoders raise errors of all types
        raise BadInput(f"{what} is damaged or truncated: {str(error)[:200]}") from error


def _opened(data: bytes, mime: str, what: str) -> Image:
    """Return an image of which the header has been read."""
    from PIL import Image as Images

    if mime != "image/heic":
        return Images.open(io.BytesIO(data), formats=_FORMATS[mime])
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise MissingExtra(f"{what} is HEIC, and pillow-heif, which reads it,", "heic") from error
    return HeifImageFile(io.BytesIO(data))  # type: ignore[no-untyped-call]


def _as_taken(image: Image, data: bytes, mime: str, limits: ImageLimits) -> Converted:
    fits = mime in limits.types and len(data) <= limits.max_bytes and max(image.size) <= limits.max_side
    animated = getattr(image, "is_animated", False)
    plain = image.mode in _PLAIN_MODES and "transparency" not in image.info
    turn = image.getexif().get(_ORIENTATION, 1)
    if fits and plain and not animated:
        image.load()
        if _is_bare(image, data):
            return Converted(data, mime, *image.size)
    if animated:
        image.seek(0)
    image.draft("RGB", (limits.max_side, limits.max_side))  # a large JPEG is decoded at a part of its size
    image.load()
    return _as_jpeg(_upright(_opaque(_smaller(image, limits.max_side)), turn), limits)


def _is_bare(image: Image, data: bytes) -> bool:
    """Return True if nothing is known of an image that was loaded but its pixels and their colours."""
    if not _BARE.issuperset(image.info) or image.getexif() or getattr(image, "private_chunks", None):
        return False
    for name, content in getattr(image, "applist", ()):
        if name not in _BARE_SEGMENTS or not content.startswith(_BARE_SEGMENTS[name]):
            return False
    if image.format == "WEBP":
        return len(data) == int.from_bytes(data[4:8], "little") + 8
    return data.endswith(_ENDS.get(image.format or "", b""))


def _smaller(image: Image, side: int) -> Image:
    if max(image.size) <= side:
        return image
    from PIL import Image as Images

    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "RGBA", "CMYK", "LA"):
        image = _eight_bits(image)
    image.thumbnail((side, side), Images.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def _eight_bits(image: Image) -> Image:
    """Return an image of 16 or 32 bits, or of real numbers, as one of eight bits."""
    import numpy as np
    from PIL import Image as Images

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16") or (image.mode == "I" and values.min() >= 0 and values.max() < 65_536):
        values = values / 257.0
    else:
        low, high = np.nanmin(values), np.nanmax(values)
        values = (values - low) * (255.0 / (high - low)) if high > low else np.zeros_like(values)
    return Images.fromarray(np.nan_to_num(values).clip(0, 255).round().astype(np.uint8))


def _opaque(image: Image) -> Image:
    """Return an image as RGB or grey, with white behind its transparent parts."""
    from PIL import Image as Images

    image = _eight_bits(image)
    if image.mode in _PLAIN_MODES and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colours = image.convert("RGBA")
        white = Images.new("RGBA", colours.size, "white")
        return Images.alpha_composite(white, colours).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _upright(image: Image, turn: Any) -> Image:
    from PIL import Image as Images

    transpose = Images.Transpose
    methods = {
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_270,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_90,
    }
    return image.transpose(methods[turn]) if turn in methods else image


def _as_jpeg(image: Image, limits: ImageLimits) -> Converted:
    """Return an image as a JPEG of at most the limit's bytes."""
    from PIL import Image as Images

    while True:
        for quality in QUALITIES:
            out = io.BytesIO()
            image.save(out, "JPEG", comment=b"", quality=quality, subsampling=0 if quality > 80 else 2)
            if out.tell() <= limits.max_bytes:
                return Converted(out.getvalue(), "image/jpeg", *image.size)
        width, height = (max(1, int(side * SHRINK)) for side in image.size)
        image = image.resize((width, height), Images.Resampling.LANCZOS)
