"""The espeak-ng binding: word times that cover the speech, purity, and errors for unknown voices."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.speech_corpus import espeak, voices
from data_pipelines.speech_corpus.espeak import Synthesizer
from data_pipelines.speech_corpus.grammar import NATO_WORDS, VOCABULARIES


def speak(text, voice="en-us+klatt6", **options):
    return Synthesizer.shared().speak(text, voice, **options)


@settings(max_examples=25)
@given(
    words=st.lists(st.sampled_from(NATO_WORDS), min_size=1, max_size=8),
    rate=st.integers(*espeak.RATE_RANGE),
    voice=st.sampled_from(("en-us+klatt6", "en-us+adam", "en-us")),
)
def test_each_written_word_has_its_span_and_word_times_tile_the_speech(words, rate, voice):
    text = " ".join(words)
    speech = speak(text, voice, rate_wpm=rate)
    spans = zip(speech.words.char_start, speech.words.char_end, strict=True)
    assert [text[start:end] for start, end in spans] == words
    start, end = speech.words.start_s, speech.words.end_s
    assert start[0] == 0
    assert np.all(end >= start)
    assert np.all(start[1:] >= end[:-1])
    assert np.all(start[1:] - end[:-1] < 0.2)  # between words of one clause there is at most a short pause
    assert speech.seconds - 0.1 < end[-1] <= speech.seconds
    assert np.all(np.diff(speech.phonemes.start_s) >= 0)
    assert len(speech.phonemes.symbols) == len(speech.phonemes.start_s)


@settings(max_examples=60)
@given(
    text=st.text(
        st.one_of(st.sampled_from("aé ,.!?-'1€ß天ねにمन"), st.characters(exclude_categories=("Cs",))), max_size=20
    ),
    language=st.sampled_from(tuple(voices.LANGUAGES)),
)
def test_any_text_has_words_in_order_or_is_an_error(text, language):
    try:
        speech = speak(text, voices.LANGUAGES[language].voices[0])
    except ValueError:
        return  # there is nothing to say in it, as `test_what_cannot_be_spoken_is_an_error` says
    words = speech.words
    assert len(words.char_start) > 0
    assert np.all(words.char_end > words.char_start)
    assert np.all(words.char_start[1:] >= words.char_end[:-1])
    assert words.char_end[-1] <= len(text)
    assert np.all(words.end_s >= words.start_s)
    assert np.all(words.start_s[1:] >= words.end_s[:-1])
    assert words.end_s[-1] <= speech.seconds + 0.001


def test_a_pause_belongs_to_neither_word():
    words = speak("alpha, bravo").words
    assert words.start_s[1] - words.end_s[0] > 0.1


@pytest.mark.parametrize("language", voices.LANGUAGES)
def test_every_language_speaks_its_grammar_with_words_in_order(language):
    vocabulary = VOCABULARIES[language]
    text = vocabulary.separator.join(vocabulary.words)
    speech = speak(text, voices.espeak_voice("+klatt4", language))
    words = speech.words
    spoken = "".join(text[a:b] for a, b in zip(words.char_start, words.char_end, strict=True))
    assert spoken == text.replace(" ", "")
    assert np.all(words.char_start[1:] >= words.char_end[:-1])
    assert np.all(words.end_s > words.start_s)
    assert np.abs(speech.audio).max() > 1000


def test_a_span_starts_with_its_word_where_espeak_counts_a_full_stop_as_none():
    words = speak("alpha. bravo").words
    assert list(zip(words.char_start, words.char_end, strict=True)) == [(0, 5), (7, 12)]


def test_an_utterance_does_not_depend_on_those_before_it():
    first = speak("alpha bravo", "en-us+f1")
    speak("zulu golf whiskey", "fr+m3", rate_wpm=300, pitch=80)
    again = speak("alpha bravo", "en-us+f1")
    np.testing.assert_array_equal(first.audio, again.audio)
    np.testing.assert_array_equal(first.words.start_s, again.words.start_s)


def test_the_sample_rate_changes_the_samples_and_not_the_times():
    low, high = speak("alpha bravo", sample_rate=16000), speak("alpha bravo", sample_rate=24000)
    assert low.audio.dtype == np.int16
    assert len(high.audio) == pytest.approx(1.5 * len(low.audio), abs=2)
    np.testing.assert_allclose(low.words.start_s, high.words.start_s)


@pytest.mark.parametrize(
    ("voice", "named"),
    [("en-us+klat", "klatt"), ("en-gb", "en-gb-x-rp"), ("fr-fr", "fr-ch"), ("123", "en-us"), ("en-us+", "klatt6")],
)
def test_an_unknown_voice_is_one_line_naming_it_and_near_matches(voice, named):
    with pytest.raises(ValueError, match="accepted is") as error:
        speak("alpha", voice)
    assert repr(voice) in str(error.value)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_voices_belong_to_languages():
    assert voices.espeak_voice("+f1", "ko") == "ko+f1"
    assert voices.espeak_voice("fr-ch", "fr") == "fr-ch"
    with pytest.raises(ValueError, match="language = 'xx': accepted is one of zh, en"):
        voices.espeak_voice("+f1", "xx")
    with pytest.raises(ValueError, match="does not speak 'de'"):
        voices.espeak_voice("en-us+klatt6", "de")
    with pytest.raises(ValueError, match="speaks none of the languages"):
        voices.check_voice("nl")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "text = ''"),
        ("...", {}, "at least one word"),
        ("a\0b", {}, "NUL"),
        ("alpha", {"rate_wpm": 20}, "rate_wpm = 20: accepted is 80 to 450"),
        ("alpha", {"pitch": 100}, "pitch = 100: accepted is 0 to 99"),
        ("alpha", {"sample_rate": 44100}, "sample_rate = 44100: accepted is one of 8000"),
    ],
)
def test_what_cannot_be_spoken_is_an_error(text, options, message):
    with pytest.raises(ValueError, match=message):
        speak(text, **options)
