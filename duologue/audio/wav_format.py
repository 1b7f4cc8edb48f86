"""The sample formats of WAV files, and their conversion to s16le.

The codes are those of Microsoft's `mmreg.h` and RFC 2361.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._arrays import Int32s

_NAMES = {
    0x0002: "Microsoft ADPCM",
    0x0010: "OKI ADPCM",
    0x0011: "IMA ADPCM",
    0x0031: "GSM 6.10",
    0x0040: "G.721 ADPCM",
    0x0042: "G.723.1",
    0x0045: "G.726 ADPCM",
    0x0050: "MPEG",
    0x0055: "MP3",
    0x0064: "G.726 ADPCM",
    0x0065: "G.722 ADPCM",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0161: "Windows Media Audio",
    0x0162: "Windows Media Audio Professional",
    0x028F: "G.722 ADPCM",
    0x1610: "AAC",
    0x674F: "Ogg Vorbis",
    0x706D: "AAC",
    0xA109: "Speex",
    0xF1AC: "FLAC",
}
Coding = Literal["integer", "float", "µ-law", "A-law"]
_CODINGS: dict[int, Coding] = {1: "integer", 3: "float", 6: "A-law", 7: "µ-law"}


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """A format of samples: the coding, the bytes of a sample (`width`) and of a sample of each channel (`block`)."""

    coding: Coding
    sample_rate: int
    channels: int
    width: int
    block: int
    order: str

    def to_pcm(self, data: bytes) -> bytes:
        """Convert whole blocks to s16le. Integers are rounded, floats scaled by 32,768; both are clipped."""
        import numpy as np

        from .g711 import A_LAW, MU_LAW

        if self.coding == "µ-law":
            return MU_LAW.decode(data)
        if self.coding == "A-law":
            return A_LAW.decode(data)
        if self.coding == "float":
            return self._from_floats(data)
        if self.width == 1:
            values = (np.frombuffer(data, np.uint8).astype(np.int16) - 128) << 8
            return values.astype("<i2").tobytes()
        if self.width == 2:
            return data if self.order == "<" else np.frombuffer(data, ">i2").astype("<i2").tobytes()
        return _rounded(self._upper_three_bytes(data))

    def _from_floats(self, data: bytes) -> bytes:
        import numpy as np

        with np.errstate(invalid="ignore"):  # some NaN bit patterns are signals
            values = np.frombuffer(data, f"{self.order}f{self.width}").astype(np.float64)
        values = np.clip(np.nan_to_num(values, nan=0.0), -1.0, 1.0) * 32768  # 64 bits hold what overflows if multiplied
        pcm: bytes = np.minimum(np.rint(values), 32767).astype("<i2").tobytes()
        return pcm

    def _upper_three_bytes(self, data: bytes) -> Int32s:
        """Return the upper 24 bits of each integer."""
        import numpy as np

        parts = np.frombuffer(data, np.uint8).reshape(-1, self.width)
        upper = parts[:, -3:] if self.order == "<" else parts[:, 2::-1]
        low, middle, high = (upper[:, n].astype(np.int32) for n in range(3))
        value: Int32s = low | middle << 8 | high << 16
        return value - ((value & 0x800000) << 1)


def _rounded(values: Int32s) -> bytes:
    import numpy as np

    pcm: bytes = np.minimum((values + 128) >> 8, 32767).astype("<i2").tobytes()
    return pcm


def sample_format(code: int, channels: int, sample_rate: int, block: int, bits: int, order: str) -> SampleFormat:
    """Return the format with this code. Raises ValueError, with the format's name, for one that is not read."""
    coding = _CODINGS.get(code)
    if coding is None:
        name = _NAMES.get(code, "an unknown format")
        raise ValueError(f"its format is {name} (0x{code:04X}): integers, floats, A-law and µ-law are read")
    width, rest = divmod(block, channels)
    if rest or not -(-bits // 8) <= width <= 8:
        width = -(-bits // 8)  # some programs write no block size
    allowed = {"integer": (1, 2, 3, 4), "float": (4, 8)}.get(coding, (1,))
    if width not in allowed:
        raise ValueError(f"its samples have {bits} bits, which is not read as {coding}")
    return SampleFormat(coding, sample_rate, channels, width, width * channels, order)
