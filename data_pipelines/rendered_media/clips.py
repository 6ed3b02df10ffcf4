"""Clips: what is shown changes at whole seconds while a sentence is spoken, neither knowing of the other."""

import dataclasses

import numpy as np

from data_pipelines.rendered_media.appearances import (
    COLOURS,
    Appearance,
    Writing,
    draw_appearance,
    draw_background,
    figures,
)
from data_pipelines.rendered_media.config import RenderedMediaConfig
from data_pipelines.rendered_media.muxing import SAMPLE_RATE, encode_video
from data_pipelines.speech_corpus.espeak import Synthesizer
from data_pipelines.speech_corpus.grammar import NATO_WORDS
from data_pipelines.speech_corpus.sentences import draw_sentence, is_held_out
from data_pipelines.speech_corpus.voices import espeak_voice

# With fewer, who hears or sees nothing guesses right too often.
_MIN_SHOWN, _MAX_SHOWN = 3, 4


@dataclasses.dataclass(frozen=True)
class SpokenWord:
    """A word and when it sounds, in seconds from the start of its clip."""

    text: str
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip before it is rendered.

    Attributes:
      seconds: its length.
      shown: all shapes or all words, three or four (two in a clip of two seconds), no two alike.
      since: second at which each of them appears, the first at 0; each stays until the next.
      said: the sentence.
      words: those of its words of which it is known when they sound.
    """

    seconds: int
    shown: tuple[Appearance, ...]
    since: tuple[int, ...]
    said: str
    words: tuple[SpokenWord, ...]


def draw_clip(config: RenderedMediaConfig, held_out: bool, rng: np.random.Generator) -> tuple[Clip, np.ndarray]:
    """A clip, and its sound, int16 `[seconds * 16000]`."""
    source = config.sentences[rng.integers(len(config.sentences))]
    words = (config.min_spoken_words, config.max_spoken_words)
    said = draw_sentence(rng, source, "en", words, held_out)
    assert said is not None
    voice = espeak_voice(config.voices[rng.integers(len(config.voices))], "en")
    speech = Synthesizer.shared().speak(said, voice, int(rng.integers(config.min_rate, config.max_rate + 1)))
    shortest = max(config.min_seconds, int(np.ceil(speech.seconds)))
    seconds = int(rng.integers(shortest, max(config.max_seconds, shortest) + 1))
    start = int(rng.integers(seconds * SAMPLE_RATE - len(speech.audio) + 1))
    sound = np.zeros(seconds * SAMPLE_RATE, np.int16)
    sound[start : start + len(speech.audio)] = speech.audio
    lead = start / SAMPLE_RATE
    spans = (speech.words.char_start, speech.words.char_end, speech.words.start_s, speech.words.end_s)
    spoken = [
        SpokenWord(said[first:last], lead + float(begins), lead + float(ends))
        for first, last, begins, ends in zip(*spans, strict=True)
        if said[first:last] in said.split()
    ]
    count = int(rng.integers(min(_MIN_SHOWN, seconds), min(_MAX_SHOWN, seconds) + 1))
    since = (0, *sorted(int(second) for second in 1 + rng.permutation(seconds - 1)[: count - 1]))
    return Clip(seconds, _draw_shown(count, held_out, rng), since, said, tuple(spoken)), sound


def render_clip(config: RenderedMediaConfig, clip: Clip, sound: np.ndarray, rng: np.random.Generator) -> bytes:
    """The file of a clip."""
    ground = draw_background(rng, config.side)
    frames = []
    for shown, start, end in zip(clip.shown, clip.since, (*clip.since[1:], clip.seconds), strict=True):
        image = ground.copy()
        draw_appearance(image, shown, (0, 0, config.side), rng)
        frames += [np.asarray(image)] * ((end - start) * config.frames_per_second)
    return encode_video(np.stack(frames), config.frames_per_second, sound, config.container)


def _draw_shown(count: int, held_out: bool, rng: np.random.Generator) -> tuple[Appearance, ...]:
    if rng.integers(2):
        pool = figures(held_out)
        return tuple(pool[index] for index in rng.permutation(len(pool))[:count])
    while True:  # one sequence of words in eight is held out
        words = [NATO_WORDS[index] for index in rng.permutation(len(NATO_WORDS))[:count]]
        if is_held_out(" ".join(words)) == held_out:
            return tuple(Writing(COLOURS[rng.integers(len(COLOURS))], word) for word in words)
