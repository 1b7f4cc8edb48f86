"""The types of images, as their first bytes show them."""

from __future__ import annotations

import re

from ..errors import BadInput

READABLE = {
    "image/avif": "AVIF",
    "image/bmp": "BMP",
    "image/gif": "GIF",
    "image/heic": "HEIC",
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/tiff": "TIFF",
    "image/webp": "WebP",
}
"""The MIME types that are read, with their names. AVIF is read if the installed Pillow can, HEIC with the extra
`heic`."""

_OTHERS = {
    "image/jxl": "JPEG XL",
    "image/svg+xml": "SVG",
    "image/x-icon": "an icon",
}
_SPELLINGS = {
    "image/heic-sequence": "image/heic",
    "image/heif": "image/heic",
    "image/heif-sequence": "image/heic",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
}
_SUFFIXES = {
    "apng": "image/png",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heic",
    "ico": "image/x-icon",
    "jfif": "image/jpeg",
    "jpe": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "jxl": "image/jxl",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
}
UNNAMED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
"""Declared types that name no type of image."""

_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"BM.{12}[\x0c-\x80]\0\0\0", re.DOTALL), "image/bmp"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "image/tiff"),
    (re.compile(rb"....ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4}){0,20}?avi[fs])", re.DOTALL), "image/avif"),
    (re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", re.DOTALL), "image/heic"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "image/jxl"),
    (re.compile(rb"\x00\x00\x01\x00"), "image/x-icon"),
    (
        re.compile(
            rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<svg[\s>]", re.DOTALL | re.I
        ),
        "image/svg+xml",
    ),
    (re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body)", re.I), "text/html"),
    (re.compile(rb"%PDF-"), "application/pdf"),
    (re.compile(rb"PK\x03\x04"), "application/zip"),
    (re.compile(rb"....ftyp", re.DOTALL), "video/mp4"),
)

ACCEPTED = ", ".join(sorted(READABLE.values()))


def kind_of(data: bytes) -> str:
    """Return the MIME type that the first bytes show, "" for an unknown type."""
    head = data[:512]
    return next((mime for signature, mime in _SIGNATURES if signature.match(head)), "")


def readable_kind(data: bytes, declared: str = "", what: str = "the image") -> str:
    """Return the MIME type of an image's content. Raises BadInput if it is not an image that is read.

    `declared` is the type that its source gives. Any type of images will do; another type is refused.
    """
    check_declared(declared, what)
    if not data:
        raise BadInput(f"{what} is empty")
    found = kind_of(data)
    if found in READABLE:
        return found
    told = f", though declared as {declared[:64]}" if declared and declared not in UNNAMED else ""
    name = _OTHERS.get(found) or found or "not an image"
    raise BadInput(f"{what} is {name}{told}: {ACCEPTED} are taken")


def check_declared(declared: str, what: str = "the image") -> None:
    """Raise BadInput for a declared MIME type of which no image is read. One that says nothing will do."""
    plain = declared.partition(";")[0].strip().lower()
    plain = _SPELLINGS.get(plain, plain)
    if plain in READABLE or plain in UNNAMED:
        return
    raise BadInput(f"{what} has the type {declared[:64]!r}: {ACCEPTED} are taken")


def kind_of_name(name: str) -> str:
    """Return the MIME type that a file's name declares, "" without a suffix, and the suffix if it is not an image's."""
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    return _SUFFIXES.get(suffix, suffix and f".{suffix}")
