"""The study's independent recogniser: pocketsphinx with a closed grammar. As a module it serves `experiments.judge`.

It shares nothing with what is trained here: its own acoustic model, features and dictionary. Deliberately free of jax,
so that a worker starts in a fraction of a second and takes little memory.
"""

from collections.abc import Sequence
import dataclasses
import io
import json
import sys

import numpy as np
import pocketsphinx

SAMPLE_RATE = 16_000
_FRAME_SECONDS = 0.01
_NOISE_SEED = 0


@dataclasses.dataclass(frozen=True)
class RecogniserSettings:
    """How audio is prepared and decoded; the report prints these beside every figure.

    `word_insertion_penalty` is pocketsphinx's `wip`: its default, 0.65, inserts words into slow synthetic speech.
    `padding_seconds` of near-silence go on both ends. `noise` and `peak` are amplitudes of full scale.
    """

    word_insertion_penalty: float = 0.05
    padding_seconds: float = 0.3
    noise: float = 1e-4
    peak: float = 0.6


DEFAULTS = RecogniserSettings()


def grammar(words: Sequence[str]) -> str:
    """A JSGF grammar that accepts any sequence of the words."""
    return f"#JSGF V1.0;\ngrammar words;\npublic <sentence> = ( {' | '.join(words)} )*;\n"


class Recogniser:
    """Hears 16 kHz speech made of a closed list of words.

    Raises ValueError for a word that the recogniser's English dictionary does not have.
    """

    def __init__(self, words: Sequence[str], settings: RecogniserSettings = DEFAULTS):
        self._settings = settings
        self._decoder = pocketsphinx.Decoder(
            lm=None, loglevel="FATAL", samprate=SAMPLE_RATE, wip=settings.word_insertion_penalty
        )
        for word in words:
            if self._decoder.lookup_word(word) is None:
                raise ValueError(
                    f"word {word!r} is not in the recogniser's dictionary; accepted: its English words, in lower case"
                )
        self._decoder.add_jsgf_string("words", grammar(words))
        self._decoder.activate_search("words")

    def hear(self, audio: np.ndarray) -> list[tuple[str, float, float]]:
        """Audio, float [n] at 16 kHz, to (word, start, end), seconds from the first sample of `audio`.

        The result depends on this audio alone: features are normalised by the utterance's own mean.
        """
        self._decoder.start_utt()
        self._decoder.process_raw(self._prepared(audio).tobytes(), full_utt=True)
        self._decoder.end_utt()
        if self._decoder.hyp() is None:
            return []
        seconds = len(audio) / SAMPLE_RATE
        return [
            (
                segment.word.partition("(")[0],
                float(np.clip(segment.start_frame * _FRAME_SECONDS - self._settings.padding_seconds, 0, seconds)),
                float(np.clip((segment.end_frame + 1) * _FRAME_SECONDS - self._settings.padding_seconds, 0, seconds)),
            )
            for segment in self._decoder.seg()
            if segment.word[0] not in "<[("
        ]

    def _prepared(self, audio: np.ndarray) -> np.ndarray:
        """Peak-normalised, padded, with a noise floor, as int16."""
        padding = round(self._settings.padding_seconds * SAMPLE_RATE)
        audio = np.asarray(audio, np.float64)
        loudest = np.max(np.abs(audio), initial=0.0)
        scaled = audio * (self._settings.peak / loudest) if loudest > self._settings.noise else audio
        padded = np.pad(scaled, padding)
        padded += self._settings.noise * np.random.default_rng(_NOISE_SEED).standard_normal(len(padded))
        return np.round(np.clip(padded, -1, 1) * 32767).astype(np.int16)


def main() -> None:
    """Reads an npz on stdin (`request`: JSON with words and settings; `audio_0`, ...), writes what it hears as JSON."""
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as arrays:
        request = json.loads(str(arrays["request"]))
        recogniser = Recogniser(request["words"], RecogniserSettings(**request["settings"]))
        heard = [recogniser.hear(arrays[f"audio_{index}"]) for index in range(request["count"])]
    json.dump(heard, sys.stdout)


if __name__ == "__main__":
    main()
