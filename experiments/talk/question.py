"""What is asked: files and text as one turn, after a system turn."""

from collections.abc import Sequence
import dataclasses

from data_pipelines.conversations import ReadingConfig, count_conversation, stream_conversation
from data_pipelines.media.probe import probe
from qomni_jax.sequence.chat import Audio, Image, Part, Text, Turn, Video
from qomni_jax.sequence.counting import TokenCount
from qomni_jax.sequence.example import StreamedExample
from qomni_jax.thinker.storage import StoredThinker, Tokenizer


@dataclasses.dataclass(frozen=True)
class Asked:
    """Paths of files, in the order in which the model reads them, and text; `sound`: that of videos is heard."""

    images: Sequence[str] = ()
    recordings: Sequence[str] = ()
    videos: Sequence[str] = ()
    sound: bool = True
    text: str = ""
    system: str = ""


class Question:
    """A conversation for one model. Raises ValueError and OSError with one line where its files cannot be read."""

    def __init__(self, asked: Asked, stored: StoredThinker, tokenizer: Tokenizer):
        audio = stored.config.audio
        self._tokenizer = tokenizer
        self._reading = ReadingConfig(audio, features=stored.features, image=stored.image, sequence=stored.sequence)
        parts: list[Part] = [Image(path) for path in asked.images]
        parts += [Audio(path) for path in asked.recordings]
        for path in asked.videos:
            parts.append(Video(path, sound=asked.sound and audio is not None and probe(path).num_samples > 0))
        parts += [Text(asked.text)] if asked.text else []
        system = [Turn("system", (Text(asked.system),))] if asked.system else []
        self._turns = [*system, Turn("user", tuple(parts))]

    def count(self) -> TokenCount:
        """Its tokens, before anything is decoded."""
        return count_conversation(self._turns, self._tokenizer, self._reading, reply=True)

    def read(self) -> StreamedExample:
        """Its tokens, and its media, which are decoded as they are walked over: once."""
        return stream_conversation(self._turns, self._tokenizer, self._reading, reply=True)
