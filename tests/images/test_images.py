"""Images from files and bytes: the right picture, or an error that names what is wrong."""

from __future__ import annotations

import asyncio
import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pillow_heif
import pytest
from PIL import Image, features

from duologue import images
from duologue.errors import BadInput, ConfigurationError, MissingExtra
from duologue.images.kinds import kind_of
from duologue.images.limits import ImageLimits, ImageRules
from tests.images.samples import PIXEL, as_jpeg, look, quarters, saved

LARGE = quarters(3000, 2000)


def rotated(tag: int) -> bytes:
    """Return the quarters as a camera writes them that was turned: EXIF says how to turn them back."""
    turned = {
        1: quarters(),
        2: quarters().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: quarters().transpose(Image.Transpose.ROTATE_180),
        4: quarters().transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: quarters().transpose(Image.Transpose.TRANSPOSE),
        6: quarters().transpose(Image.Transpose.ROTATE_90),
        7: quarters().transpose(Image.Transpose.TRANSVERSE),
        8: quarters().transpose(Image.Transpose.ROTATE_270),
    }[tag]
    exif = Image.Exif()
    exif[0x0112] = tag
    return saved(turned, "JPEG", quality=90, exif=exif)


def animated(format: str) -> bytes:
    black = Image.new("RGB", (64, 48))
    return saved(quarters(), format, save_all=True, append_images=[black, black], duration=100)


def transparent(mode: str) -> bytes:
    """Return the quarters as a PNG with its last quarter, the white one, transparent over black."""
    image = quarters().convert("RGBA")
    image.paste((0, 0, 0, 0), (32, 24, 64, 48))
    return saved(image if mode == "RGBA" else image.convert(mode), "PNG")


def sixteen_bits() -> bytes:
    grey = np.full((48, 64), 65_535, np.uint16)
    grey[:24, :32] = 0
    return saved(Image.fromarray(grey), "PNG")


PICTURES = {
    "jpeg": as_jpeg(),
    "png": saved(quarters(), "PNG"),
    "webp": saved(quarters(), "WEBP", lossless=True),
    "bmp": saved(quarters(), "BMP"),
    "tiff": saved(quarters(), "TIFF"),
    "cmyk": saved(quarters().convert("CMYK"), "JPEG", quality=95),
    "cmyk tiff": saved(quarters().convert("CMYK"), "TIFF"),
    "palette": saved(quarters().quantize(8), "PNG"),
    "gif": saved(quarters(), "GIF"),
    "animated gif": animated("GIF"),
    "animated webp": animated("WEBP"),
    "animated png": animated("PNG"),
    "transparent": transparent("RGBA"),
    "transparent palette": transparent("P"),
    "large": saved(LARGE, "JPEG", quality=90),
    "large palette": saved(LARGE.quantize(8), "PNG"),
    "large cmyk": saved(LARGE.convert("CMYK"), "JPEG"),
    "xmp": saved(quarters(), "JPEG", quality=90, xmp=b"<x:xmpmeta>52.5 N</x:xmpmeta>"),
    **({"avif": saved(quarters(), "AVIF", quality=90)} if features.check("avif") else {}),
    **{f"exif {tag}": rotated(tag) for tag in range(1, 9)},
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("types", [{"image/jpeg", "image/png"}, {"image/jpeg"}], ids=["jpeg png", "jpeg"])
async def test_the_right_picture(name: str, types: set[str]) -> None:
    limits = ImageLimits(types=frozenset(types), max_side=512, max_bytes=100_000)
    frame = await images.from_bytes(PICTURES[name], limits=limits)
    assert frame.mime in types
    assert look(frame.image) == "RGBW"
    with Image.open(io.BytesIO(frame.image)) as image:
        assert image.size == (frame.width, frame.height)
        assert image.mode in ("RGB", "L")
        assert getattr(image, "n_frames", 1) == 1
        assert not image.getexif()
        assert "xmp" not in image.info
    assert (frame.width, frame.height) == ((512, 341) if "large" in name else (64, 48))
    assert len(frame.image) <= 100_000


async def test_sixteen_bits_are_scaled_and_not_cut() -> None:
    frame = await images.from_bytes(sixteen_bits())
    assert look(frame.image) == "KWWW"


async def test_an_image_that_fits_is_passed_on_as_it_is() -> None:
    for data in (as_jpeg(), PIXEL):
        assert (await images.from_bytes(data)).image == data


SECRET = b"12 Long Street"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def in_jpeg(marker: int, data: bytes) -> bytes:
    plain = as_jpeg()
    return plain[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + plain[2:]


def in_png(data: bytes, *, at_the_end: bool = False) -> bytes:
    plain = saved(quarters(), "PNG")
    place = len(plain) - 12 if at_the_end else 33
    return plain[:place] + data + plain[place:]


TELLING = {
    "a comment": in_jpeg(0xFE, SECRET),
    "EXIF that is malformed": in_jpeg(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + SECRET),
    "XMP": in_jpeg(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET),
    "IPTC": in_jpeg(0xED, b"Photoshop 3.0\0" + SECRET),
    "several pictures": in_jpeg(0xE2, b"MPF\0" + SECRET),
    "a maker's segment": in_jpeg(0xE9, SECRET),
    "something behind a JPEG": as_jpeg() + SECRET,
    "text of a PNG": in_png(chunk(b"tEXt", b"Location\0" + SECRET)),
    "text behind the pixels": in_png(chunk(b"tEXt", b"Location\0" + SECRET), at_the_end=True),
    "a chunk of its own": in_png(chunk(b"gpSx", SECRET)),
    "something behind a PNG": saved(quarters(), "PNG") + SECRET,
    "a GIF's comment": saved(quarters().convert("P"), "GIF", comment=SECRET),
    "something behind a WebP": saved(quarters(), "WEBP") + SECRET,
    "a comment in a large one": saved(quarters(3000, 2000), "JPEG", comment=SECRET),
}


@pytest.mark.parametrize("name", TELLING)
async def test_an_image_says_nothing_of_its_origin(name: str) -> None:
    assert SECRET in TELLING[name]
    frame = await images.from_bytes(TELLING[name])
    assert SECRET not in frame.image
    assert look(frame.image) == "RGBW"


async def test_an_image_of_many_bytes_becomes_smaller() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8))
    frame = await images.from_bytes(saved(noise, "PNG"), limits=ImageLimits(max_bytes=9_000))
    assert len(frame.image) <= 9_000
    assert frame.width > 50


def bomb(width: int, height: int) -> bytes:
    """Return a PNG that claims to have this size, of few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(2_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def heic(width: int, height: int, turn: int = 1) -> bytes:
    """Return the quarters as a HEIC file, with this orientation in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = turn, SECRET.decode()
    out = io.BytesIO()
    pillow_heif.from_pillow(quarters(width, height)).save(out, quality=80, exif=exif.tobytes())
    return out.getvalue()


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "40 MB": (b"\xff\xd8\xff" + bytes(40_000_000), "", r"40\.0 MB: at most 21\.0 MB"),
    "empty": (b"", "", "empty"),
    "text": (b"hello, this is no image", "", "not an image: AVIF, BMP"),
    "html, told to be an image": (
        b"<html><body>404</body></html>",
        "image/png",
        "text/html, though declared as image/png",
    ),
    "pdf": (b"%PDF-1.7 " + bytes(100), "", "application/pdf"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml", r"svg.*are taken"),
    "svg, undeclared": (b"<svg onload='alert(1)'/>", "", "SVG.*JPEG"),
    "damaged heic": (HEIC, "", "damaged"),
    "damaged heic, declared": (HEIC, "image/heic", "damaged"),
    "a heic bomb": (heic(8_000, 7_000), "image/heif", r"8000 × 7000 pixels: at most 50,000,000"),
    "jpeg xl": (b"\xff\x0a" + bytes(100), "", "JPEG XL.*HEIC, JPEG, PNG"),
    "video": (b"\0\0\0\x18ftypisom" + bytes(100), "", "video/mp4"),
    "an image, told to be a page": (as_jpeg(), "text/html", "text/html"),
    "truncated jpeg": (as_jpeg(640, 480)[:2_000], "", "damaged or truncated"),
    "truncated png": (saved(quarters(), "PNG")[:80], "", "damaged"),
    "truncated gif": (animated("GIF")[:60], "", "damaged"),
    "truncated webp": (saved(quarters(), "WEBP")[:60], "", "damaged"),
    "a signature and nothing else": (b"\x89PNG\r\n\x1a\n", "", "damaged"),
    "a bomb": (bomb(30_000, 30_000), "", "too many pixels: at most 50,000,000"),
    "a smaller bomb": (bomb(8_000, 8_000), "", r"8000 × 8000 pixels: at most 50,000,000"),
    "a lying header": (bomb(6_000, 6_000), "", "damaged or truncated"),
}


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize("mime", ["", "image/heic", "image/heif", "image/jpeg"])
async def test_a_heic_picture_is_read_and_says_nothing_of_its_origin(mime: str, turn: int) -> None:
    frame = await images.from_bytes(heic(64, 48, turn), mime)
    assert (frame.mime, frame.width > frame.height, SECRET in frame.image) == ("image/jpeg", turn == 1, False)
    assert look(frame.image) == ("RGBW" if turn == 1 else "BRWG")


async def test_without_its_extra_a_heic_picture_is_an_error_that_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtra, match=r"'a\.heic' is HEIC, and pillow-heif.*duologue\[heic\]"):
        await images.from_bytes(HEIC, "image/heic", name="a.heic")


@pytest.mark.parametrize("brand", [b"mif1", b"msf1"])
async def test_a_file_of_a_general_brand_is_of_the_kind_that_its_others_tell(brand: bytes) -> None:
    head = b"\0\0\0\x20ftyp" + brand + b"\0\0\0\0" + brand
    assert kind_of(head + b"avif" + bytes(20)) == "image/avif"
    assert kind_of(head + b"heic" + bytes(20)) == "image/heic"


@pytest.mark.parametrize("name", REFUSED)
async def test_a_clear_error(name: str) -> None:
    data, mime, problem = REFUSED[name]
    with pytest.raises(BadInput, match=problem):
        await images.from_bytes(data, mime)


async def test_bytes_of_any_kind_are_an_image_or_refused() -> None:
    random = np.random.default_rng(7)
    for name in ("jpeg", "png", "animated gif", "animated webp", "cmyk tiff", "bmp"):
        for _ in range(40):
            data = bytearray(PICTURES[name])
            for place in random.integers(0, len(data), 6):
                data[place] = random.integers(0, 256)
            try:
                frame = await images.from_bytes(bytes(data), rules=ImageRules(max_pixels=1_000_000))
            except BadInput:
                continue
            with Image.open(io.BytesIO(frame.image)) as image:
                image.load()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat.jpg", "cat.JPEG", "cat.png", "cat", "cat.jfif"])
async def test_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(as_jpeg())
    frame = await images.from_file(path)
    assert (frame.image, frame.mime, frame.name) == (as_jpeg(), "image/jpeg", name)


async def test_files_that_are_refused(tmp_path: Path) -> None:
    for name, data, problem in (
        ("notes.txt", as_jpeg(), r"notes\.txt has the type '\.txt'"),
        ("cat.svg", b"<svg/>", "svg"),
        ("cat.png", b"hello", "'cat.png' is not an image, though declared as image/png"),
        ("long.png", bytes(30_000_000), r"long\.png has 30\.0 MB"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=problem):
            await images.from_file(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "missing.png", tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(BadInput, match="cannot be read"):
            await images.from_file(path)
    assert str(tmp_path) not in str(await _error_of(tmp_path / "missing.png"))


async def _error_of(path: Path) -> BadInput:
    with pytest.raises(BadInput) as raised:
        await images.from_file(path)
    return raised.value


# -- beside other work -------------------------------------------------------------------------------------------------


@pytest.mark.real_clock
async def test_the_event_loop_goes_on_while_a_large_image_is_converted() -> None:
    data = saved(quarters(4_000, 3_000), "PNG", compress_level=1)
    late, stopped = [0.0], False

    async def tick() -> None:
        loop = asyncio.get_running_loop()
        while not stopped:
            due = loop.time() + 0.01
            await anyio.sleep(0.01)
            late.append(loop.time() - due)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        frame = await images.from_bytes(data)
        stopped = True
    assert frame.width == 2_048
    assert len(late) > 5  # the loop ran while the thread worked


async def test_without_pillow_only_an_image_that_fits_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    data = as_jpeg()
    monkeypatch.setitem(sys.modules, "PIL", None)
    frame = await images.from_bytes(data)
    assert (frame.image, frame.width) == (data, 0)
    with pytest.raises(MissingExtra, match=r"duologue\[vision\]"):
        await images.from_bytes(PICTURES["bmp"])
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"duologue\[vision\]"):
        await images.from_url("https://example.com/cat.png")


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda: ImageRules(deadline_s=0), "deadline_s"),
        (lambda: ImageRules(networks=("10.0.0.0/99",)), "10.0.0.0/99"),
        (lambda: ImageRules(max_redirects=-1), "max_redirects"),
        (lambda: ImageLimits(types=frozenset({"image/png"})), "image/jpeg"),
        (lambda: ImageLimits(max_side=1), "16 pixels"),
    ],
)
def test_impossible_limits(made: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        made()
