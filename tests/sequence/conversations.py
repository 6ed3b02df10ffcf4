"""A tokenizer, random conversations with sizes of their media, and configs, for the tests of sequences."""

from hypothesis import strategies as st

from qomni_jax.config.sequence import SequenceConfig, qomni, qwen3_5, qwen3_omni
from qomni_jax.sequence.chat import ROLES, Audio, Image, Text, ToolCall, Turn, Video
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, VideoSize

TOKENIZER = ChatTokenizer.train(["the quick brown fox", "<3.0 seconds>", "user\n", "assistant\n", "system\n"] * 4, 330)
CONFIGS = {
    "qomni": qomni(),
    "qwen3_5": qwen3_5(),
    "qwen3_omni": qwen3_omni(),
    "qomni, timestamps alone": SequenceConfig(time_encoding="timestamps"),
    "qomni, tmrope alone": SequenceConfig(time_encoding="tmrope"),
    "qomni, short intervals": SequenceConfig(audio_timestamp_interval=1.0, audio_timestamp_range=(0.5, 2.0)),
}
WORDS = st.text("the quick<|im_end|>\n", max_size=12)


@st.composite
def media(draw):
    """A media item and its size."""
    side = st.integers(1, 3).map(lambda tokens: 2 * tokens)
    kind = draw(st.sampled_from(["audio", "image", "video", "video with sound"]))
    if kind == "audio":
        return Audio(), AudioSize(draw(st.integers(1, 60)))
    grid = (1, draw(side), draw(side))
    if kind == "image":
        return Image(), ImageSize(grid)
    times = tuple(sorted(draw(st.lists(st.floats(0, 9), min_size=1, max_size=6))))
    sound = kind == "video with sound"
    tokens = draw(st.integers(1, 60)) if sound else None
    return Video(sound=sound), VideoSize((len(times), *grid[1:]), times, tokens)


@st.composite
def conversations(draw, max_turns: int = 4):
    """Turns and the sizes of their media."""
    turns, sizes = [], []
    for role in draw(st.lists(st.sampled_from(ROLES), min_size=1, max_size=max_turns)):
        parts, calls = [], ()
        if role == "assistant":
            parts = [Text(draw(WORDS))]
            calls = (ToolCall("f", {"x": 1}),) * draw(st.integers(0, 2))
        else:
            for part in draw(st.lists(st.one_of(WORDS, media()), max_size=3)):
                if isinstance(part, str):
                    parts.append(Text(part))
                else:
                    parts.append(part[0])
                    sizes.append(part[1])
        turns.append(Turn(role, tuple(parts), calls))
    return turns, sizes
