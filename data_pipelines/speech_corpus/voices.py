"""The ten languages the corpus speaks and the espeak-ng voices that speak them.

A voice string of a corpus is `base+variant` (`en-us+klatt6`), `base` (`fr-ch`), or `+variant` (`+klatt4`): that variant
of the language an utterance is in.
"""

import dataclasses

from data_pipelines.speech_corpus import espeak


@dataclasses.dataclass(frozen=True)
class Language:
    """A language: its English name, and the espeak-ng base voices that speak it, the default one first."""

    name: str
    voices: tuple[str, ...]


# Codes are ISO 639-1. The languages are those in which the report measures speech generation.
LANGUAGES: dict[str, Language] = {
    "zh": Language("Chinese", ("cmn",)),
    "en": Language("English", ("en-us", "en", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-us-nyc")),
    "ja": Language("Japanese", ("ja",)),
    "ko": Language("Korean", ("ko",)),
    "de": Language("German", ("de",)),
    "fr": Language("French", ("fr", "fr-be", "fr-ch")),
    "ru": Language("Russian", ("ru",)),
    "pt": Language("Portuguese", ("pt-br", "pt")),
    "es": Language("Spanish", ("es", "es-419")),
    "it": Language("Italian", ("it",)),
}


def check_language(language: str) -> None:
    """Raises ValueError unless `language` is one of `LANGUAGES`."""
    if language not in LANGUAGES:
        raise ValueError(f"language = {language!r}: accepted is one of {', '.join(LANGUAGES)}")


def check_voice(voice: str) -> None:
    """Raises ValueError unless `voice` is a voice string of one of `LANGUAGES`, naming the nearest matches."""
    base = voice.partition("+")[0]
    espeak.check_voice(voice if base or not voice else LANGUAGES["en"].voices[0] + voice)
    if base and not any(base in language.voices for language in LANGUAGES.values()):
        accepted = ", ".join(voice for language in LANGUAGES.values() for voice in language.voices)
        raise ValueError(f"voice {voice!r} speaks none of the languages {', '.join(LANGUAGES)}: accepted is {accepted}")


def speaks(voice: str, language: str) -> bool:
    """Whether the voice string `voice` can speak `language`."""
    base = voice.partition("+")[0]
    return not base or base in LANGUAGES[language].voices


def espeak_voice(voice: str, language: str) -> str:
    """The espeak-ng name of a voice string in `language`: `+f1` in `ko` is `ko+f1`.

    Raises ValueError for an unknown language or voice, and for a voice of another language.
    """
    check_language(language)
    check_voice(voice)
    if not speaks(voice, language):
        accepted = ", ".join(LANGUAGES[language].voices)
        raise ValueError(f"voice {voice!r} does not speak {language!r}: accepted is {accepted}, or one with +VARIANT")
    return LANGUAGES[language].voices[0] + voice if voice.startswith("+") else voice
