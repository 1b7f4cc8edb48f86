"""espeak-ng from the `espeakng-loader` wheel through ctypes, loaded anew for each use.

espeak-ng keeps its state in global variables, and a part of it remains after each utterance: the phase of the pitch
flutter, the gain control, the noise generator, and after an aborted utterance a half-played command. It has no call
that resets them, and equal input must give equal bytes. `fresh()` therefore loads the library, yields it, and unloads
it: every utterance finds the state of a new process. That costs about 4 ms, nearly all of it espeak-ng's scan of its
voice files. Where the platform's linker does not unload libraries, the speech is right but may differ in the last bits
between runs. Initialising espeak-ng sets the process's LC_CTYPE to a UTF-8 locale.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import MissingExtra, ServiceError

_MODE_SYNCHRONOUS = 1
_BUFFER_MS = 60
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_END_PAUSE = 0x1000
_EVENT_LIST_END = 0
_EVENT_WORD = 1
_EVENT_SAMPLE_RATE = 8
_RATE, _VOLUME, _PITCH = 1, 2, 3
_GENDERS = {1: "male", 2: "female"}
_RANDOM_SEED = 1


class _EspeakEvent(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("utterance", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_int * 2),
    )


class _VoiceRecord(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.POINTER(ctypes.c_char)),
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("reserved", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


OnAudio = Callable[[bytes, "list[WordEvent]"], bool]
"""Takes 60 ms of mono s16le and the words that begin in them; returns False to stop."""
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_EspeakEvent))


@dataclass(frozen=True)
class Listed:
    """One entry of espeak-ng's list of voices or of variants.

    `languages` are (priority, code) pairs; the lowest priority is the best match.
    """

    identifier: str
    description: str
    gender: str
    languages: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class WordEvent:
    """The start of a spoken word: the index of its character in the text, and of its sample in the audio."""

    index: int
    sample: int


class Library:
    """A loaded, initialised espeak-ng. Use it from one thread, and only inside `fresh()`."""

    def __init__(self, lib: ctypes.CDLL, data: Path) -> None:
        self._lib = lib
        self._data = data
        lib.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_VoiceRecord))
        lib.espeak_ng_InitializePath(os.fsencode(data))
        _check_status(f"data in {data}", lib.espeak_ng_Initialize(None))
        _check_status("output mode", lib.espeak_ng_InitializeOutput(_MODE_SYNCHRONOUS, _BUFFER_MS, None))
        lib.espeak_ng_SetRandSeed(ctypes.c_long(_RANDOM_SEED))

    def voices(self) -> list[Listed]:
        """Return the voices with a dictionary: espeak-ng lists a few that have none."""
        return [voice for voice in self._listed(None) if self._has_dictionary(voice)]

    def variants(self) -> list[Listed]:
        """Return the variants of timbre, which every voice can take."""
        languages = ctypes.create_string_buffer(b"variant")
        selector = _VoiceRecord(languages=ctypes.cast(languages, ctypes.POINTER(ctypes.c_char)))
        return self._listed(ctypes.byref(selector))

    def select(self, identifier: str, *, rate_wpm: int, pitch: int, volume: int) -> None:
        """Set the voice (an identifier of `voices()`, with an optional `+variant`), its rate, pitch and volume."""
        _check_status(f"voice {identifier!r}", self._lib.espeak_ng_SetVoiceByName(identifier.encode()))
        for parameter, value in ((_RATE, rate_wpm), (_PITCH, pitch), (_VOLUME, volume)):
            _check_status(f"parameter {parameter}", self._lib.espeak_ng_SetParameter(parameter, value, 0))

    def speak(self, text: str, *, end_pause: bool, sample_rate: int, on_audio: OnAudio) -> bool:
        """Speak `text` as it is written, without markup, and call `on_audio` for every 60 ms of mono s16le.

        Returns False if `on_audio` returned False, which stops the speech. With `end_pause` the pause of the last
        punctuation mark is included. Passes on exceptions of `on_audio`.
        """
        failures: list[BaseException] = []
        stopped = False

        def receive(wave: int | None, samples: int, events: ctypes._Pointer[_EspeakEvent]) -> int:
            nonlocal stopped
            try:
                words = []
                for event in _until_end(events):
                    if event.type == _EVENT_WORD:
                        words.append(WordEvent(event.text_position - 1, event.sample))
                    elif event.type == _EVENT_SAMPLE_RATE and event.id[0] != sample_rate:
                        raise ServiceError(f"espeak-ng speaks this voice at {event.id[0]} Hz, not at {sample_rate}")
                audio = ctypes.string_at(wave, samples * 2) if wave else b""
                stopped = not on_audio(audio, words)
            except BaseException as failure:  # an exception must not travel through C
                failures.append(failure)
            return int(stopped or bool(failures))

        callback = _Callback(receive)
        self._lib.espeak_SetSynthCallback(callback)
        raw = text.encode("utf-8", "replace") + b"\0"
        flags = _CHARS_UTF8 | (_END_PAUSE if end_pause else 0)
        status = self._lib.espeak_ng_Synthesize(
            raw, ctypes.c_size_t(len(raw)), 0, _POSITION_CHARACTER, 0, flags, None, None
        )
        if failures:
            raise failures[0]
        if not stopped:
            _check_status("text", status)
        return not stopped

    def _listed(self, selector: object) -> list[Listed]:
        records = self._lib.espeak_ListVoices(selector)
        listed: list[Listed] = []
        while records[len(listed)]:
            record = records[len(listed)].contents
            listed.append(
                Listed(
                    record.identifier.decode(),
                    record.name.decode().strip(),
                    _GENDERS.get(record.gender, "unspecified"),
                    tuple(_languages(record.languages)),
                )
            )
        return listed

    def _has_dictionary(self, voice: Listed) -> bool:
        definition = (self._data / "lang" / voice.identifier).read_text("utf-8")
        named = re.search(r"^dictionary\s+(\S+)", definition, re.MULTILINE)
        name = named[1] if named else voice.languages[0][1].partition("-")[0]
        return (self._data / f"{name}_dict").exists()


def _check_status(what: str, status: int) -> None:
    if status:
        raise ServiceError(f"espeak-ng refused the {what} (status {status & 0xFFFFFFFF:#x})")


def _until_end(events: ctypes._Pointer[_EspeakEvent]) -> Iterator[_EspeakEvent]:
    position = 0
    while events[position].type != _EVENT_LIST_END:
        yield events[position]
        position += 1


def _languages(packed: ctypes._Pointer[ctypes.c_char]) -> Iterator[tuple[int, str]]:
    # Pairs of a priority byte and a NUL-terminated code, up to a priority of zero.
    position = 0
    while priority := packed[position][0]:
        code = ctypes.string_at(ctypes.byref(packed.contents, position + 1))
        yield priority, code.decode()
        position += len(code) + 2


def locate() -> tuple[Path, Path]:
    """Return the library and its data folder in the wheel. Raises MissingExtra without the wheel."""
    try:
        import espeakng_loader

        return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (ImportError, RuntimeError) as error:
        raise MissingExtra("espeak-ng", "local", str(error)) from error


_one_user = threading.Lock()


@contextmanager
def fresh() -> Iterator[Library]:
    """Load espeak-ng for one user at a time in the process; terminate and unload it at the end."""
    path, data = locate()
    with _one_user:
        try:
            lib = ctypes.CDLL(str(path))
        except OSError as error:
            raise MissingExtra("espeak-ng", "local", str(error)) from error
        try:
            yield Library(lib, data)
        finally:
            lib.espeak_ng_Terminate()
            _unload(lib)


def _unload(lib: ctypes.CDLL) -> None:
    handle = ctypes.c_void_p(lib._handle)
    if sys.platform == "win32":
        ctypes.windll.kernel32.FreeLibrary(handle)
    else:
        ctypes.CDLL(None).dlclose(handle)
