"""Text to speech with word and phoneme times: a ctypes binding over the libespeak-ng of the `espeakng_loader` wheel.

espeak-ng is one global state machine: a process holds one `Synthesizer` (`Synthesizer.shared()`), used by one thread.
"""

import _ctypes
from collections.abc import Iterator
import ctypes
import dataclasses
import difflib
import functools
import itertools
import pathlib

import espeakng_loader
import numpy as np
import soxr

from data_pipelines.speech_corpus.word_times import Phonemes, Words, phoneme_times, word_times

SAMPLE_RATES = (8000, 16000, 22050, 24000)  # Hz
RATE_RANGE = (80, 450)  # words a minute that espeak-ng honours
PITCH_RANGE = (0, 99)

# Constants of espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_EVENT_END_OF_LIST, _EVENT_WORD, _EVENT_PHONEME = 0, 1, 7
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_PITCH_RANGE = 1, 3, 4


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _data_path() -> pathlib.Path:
    return pathlib.Path(espeakng_loader.get_data_path())


@functools.cache
def base_voices() -> tuple[str, ...]:
    """The voices by the names espeak-ng accepts (`en-us`, `fr`, `cmn`): those of its language files, sorted."""
    return tuple(sorted(path.name.lower() for path in _data_path().joinpath("lang").rglob("*") if path.is_file()))


@functools.cache
def variants() -> tuple[str, ...]:
    """The names that may follow a base voice and `+` (`klatt6`, `adam`, `f1`), sorted."""
    return tuple(sorted(path.name for path in _data_path().joinpath("voices", "!v").iterdir()))


def check_voice(voice: str) -> None:
    """Raises ValueError naming the unknown part of `voice` (`base` or `base+variant`) and its nearest matches.

    espeak-ng itself speaks an unknown variant with the plain voice and an unknown base with the previous one.
    """
    base, plus, variant = voice.partition("+")
    if base not in base_voices():
        raise ValueError(_unknown(voice, "base voice", base, base_voices()))
    if plus and variant not in variants():
        raise ValueError(_unknown(voice, "variant", variant, variants()))


@dataclasses.dataclass(frozen=True)
class Speech:
    """A spoken text: `audio` int16 [n] at `sample_rate` Hz, mono, and where its words and phonemes are."""

    audio: np.ndarray
    words: Words
    phonemes: Phonemes
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate


class Synthesizer:
    """espeak-ng, loaded once a process. `speak` is a pure function of its arguments, whatever was spoken before."""

    def __init__(self):
        """Loads the library. Raises RuntimeError if it does not start."""
        self._on_audio = _Callback(self._collect)
        self._pcm: list[bytes] = []
        self._words: list[tuple[int, int]] = []  # character, sample
        self._phonemes: list[tuple[str, int]] = []  # symbol, sample
        self._library: ctypes.CDLL | None = None
        self._reload()

    @classmethod
    @functools.cache
    def shared(cls) -> "Synthesizer":
        """The synthesizer of this process."""
        return cls()

    def speak(
        self,
        text: str,
        voice: str,
        rate_wpm: int = 175,
        pitch: int = 50,
        pitch_range: int = 50,
        sample_rate: int = 16000,
    ) -> Speech:
        """Speaks `text` with `voice` at `rate_wpm` words a minute; `pitch` and `pitch_range` are 0 to 99.

        The language is the voice's: `voices.espeak_voice` names the voice of a language. Raises ValueError for an
        unknown voice, a number out of range, or a text with nothing to say.
        """
        check_voice(voice)
        for name, value, (low, high) in (
            ("rate_wpm", rate_wpm, RATE_RANGE),
            ("pitch", pitch, PITCH_RANGE),
            ("pitch_range", pitch_range, PITCH_RANGE),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} = {value!r}: accepted is {low} to {high}")
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"sample_rate = {sample_rate!r}: accepted is one of {', '.join(map(str, SAMPLE_RATES))}")
        encoded = text.encode()
        if b"\0" in encoded:
            raise ValueError(f"text = {text!r}: accepted is text without NUL characters")
        library = self._reload()
        library.espeak_SetVoiceByName(voice.encode())
        library.espeak_SetParameter(_PARAMETER_RATE, int(rate_wpm), 0)
        library.espeak_SetParameter(_PARAMETER_PITCH, int(pitch), 0)
        library.espeak_SetParameter(_PARAMETER_PITCH_RANGE, int(pitch_range), 0)
        self._pcm.clear()
        self._words.clear()
        self._phonemes.clear()
        status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
        if status != 0:
            raise RuntimeError(f"espeak-ng status {status} while speaking {text!r} with voice {voice!r}")
        native = np.frombuffer(b"".join(self._pcm), np.int16)
        if not native.size or not self._words:
            raise ValueError(f"text = {text!r}: accepted is text with at least one word that {voice!r} can say")
        audio = soxr.resample(native, self._rate, sample_rate, quality="HQ")
        words = word_times(text, self._words, self._phonemes, self._rate, native.size)
        return Speech(audio, words, phoneme_times(self._phonemes, self._rate), sample_rate)

    def _reload(self) -> ctypes.CDLL:
        # The formant synthesizer keeps its oscillators' phase in static variables that no call resets; a freshly
        # loaded library (0.3 ms) has none, so an utterance never depends on the ones before it.
        if self._library is not None:
            self._library.espeak_Terminate()
            _ctypes.dlclose(self._library._handle)
        library = self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        library.espeak_Synth.argtypes = (
            *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
            *(ctypes.c_uint, ctypes.c_uint, ctypes.POINTER(ctypes.c_uint), ctypes.c_void_p),
        )
        options = _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_DONT_EXIT
        data_path = espeakng_loader.get_data_path()
        self._rate = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), options)
        if self._rate <= 0:
            raise RuntimeError(f"espeak-ng did not start with the data in {data_path}: status {self._rate}")
        library.espeak_SetSynthCallback(self._on_audio)
        library.espeak_ng_SetRandSeed(1)
        return library

    def _collect(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._pcm.append(ctypes.string_at(samples, 2 * count))
        for event in itertools.takewhile(lambda event: event.type != _EVENT_END_OF_LIST, _items(events)):
            if event.type == _EVENT_WORD:
                self._words.append((event.text_position - 1, event.sample))
            elif event.type == _EVENT_PHONEME:
                self._phonemes.append((event.id.string.decode(errors="replace"), event.sample))
        return 0


def _items(pointer) -> Iterator[_Event]:
    return (pointer[index] for index in itertools.count())


def _unknown(voice: str, part: str, value: str, accepted: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(value, accepted, n=5, cutoff=0.5) or [a for a in accepted if a[:2] == value[:2]]
    return f"voice {voice!r} has the unknown {part} {value!r}: accepted is {', '.join(near or accepted)}"
