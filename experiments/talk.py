"""One turn with a Thinker: files and a question in, text out as it comes.

Command: python -m experiments.talk --checkpoint=DIR [--image=F ...] [--audio=F ...] [--video=F ...] --text="..."

`DIR` is a Thinker of this system (`thinker.storage.save_thinker`), what `python -m qomni_jax.interop convert` wrote, or
a released checkpoint that `inspect` accepts (Qwen3.5 with vision, or Qwen3-Omni), with its tokenizer.json. Media come
before the text, in the order images, recordings, videos. A video brings its sound along when the model hears. Media may
be of any length: they are decoded and encoded piece by piece, and what stays in memory is what the encoders give and
the decoder's cache. The answer is text; how Qwen3-Omni speaks is in `inference.qwen3_omni_speech`.
Cost: what the checkpoint costs; a tiny one answers in seconds on a CPU.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
from pathlib import Path
import sys
import time
from typing import Any, NoReturn

from absl import app, flags, logging

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "a Thinker or a released checkpoint, with tokenizer.json.")
_TEXT = flags.DEFINE_string("text", "", "what to say or ask.")
_SYSTEM = flags.DEFINE_string("system", "", "a system turn before it.")
_IMAGES = flags.DEFINE_multi_string("image", [], "a png, jpeg or webp file; may be given again.")
_AUDIO = flags.DEFINE_multi_string("audio", [], "a wav, flac, mp3, ogg or m4a file; may be given again.")
_VIDEOS = flags.DEFINE_multi_string("video", [], "an mp4, webm or mkv file; may be given again.")
_SOUND = flags.DEFINE_bool("sound", True, "hear the sound of videos, where they have it and the model hears.")
_TOKENS = flags.DEFINE_integer("max_new_tokens", 512, "the longest answer.", lower_bound=1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.0, "0 is greedy.")
_TOP_K = flags.DEFINE_integer("top_k", 0, "likeliest tokens to draw from; 0: all.")
_TOP_P = flags.DEFINE_float("top_p", 1.0, "likeliest tokens until their probabilities sum to this.")
_MIN_P = flags.DEFINE_float("min_p", 0.0, "tokens at least this share as likely as the likeliest.")
_PENALTY = flags.DEFINE_float("repetition_penalty", 1.0, "above 1: what stands in the row gets less likely.")
_SEED = flags.DEFINE_integer("seed", 0, "of the draws.")
_JSON = flags.DEFINE_string("json", None, "where the answer, its tool calls and its times are written.")


def main(argv: Sequence[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        _fail(f"argument {argv[1]!r}: accepted are flags alone (--help lists them)")
    checkpoint = _CHECKPOINT.value
    if not checkpoint:
        _fail("--checkpoint is missing: accepted is the directory of a Thinker or of a released checkpoint")
    if not (_TEXT.value or _IMAGES.value or _AUDIO.value or _VIDEOS.value):
        _fail("nothing to answer: accepted is --text, --image, --audio or --video")
    try:
        found = talk(checkpoint)
    except (ValueError, OSError) as error:
        _fail(" ".join(str(error).split()))
    if _JSON.value:
        from experiments.files import write_atomically

        write_atomically(Path(_JSON.value), json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def talk(checkpoint: str) -> dict[str, Any]:
    """Answers what the flags ask; prints the text as it comes. Raises ValueError and OSError with one line."""
    from data_pipelines.conversations import ReadingConfig, count_conversation, stream_conversation
    from data_pipelines.media.probe import probe
    from qomni_jax.config.sampling import SamplingConfig
    from qomni_jax.interop.thinker_model import open_thinker
    from qomni_jax.sequence.assembly import PAD_OF
    from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
    from qomni_jax.sequence.chat_tokenizer import open_tokenizer

    sampling = SamplingConfig(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value, _MIN_P.value, _PENALTY.value, _SEED.value)
    model, params = open_thinker([checkpoint])
    stored = model.stored
    tokenizer = open_tokenizer(Path(checkpoint) / "tokenizer.json")
    for kind, index in model.pads.items():
        if tokenizer.special(PAD_OF[kind]) != index:
            raise ValueError(
                f"{checkpoint}: tokenizer.json gives {PAD_OF[kind]} the id {tokenizer.special(PAD_OF[kind])}: "
                f"accepted is {index}, as in config.json"
            )
    hears = stored.config.audio is not None
    parts: list[Any] = [Image(path) for path in _IMAGES.value] + [Audio(path) for path in _AUDIO.value]
    for path in _VIDEOS.value:
        parts.append(Video(path, sound=_SOUND.value and hears and probe(path).num_samples > 0))
    asked = (*parts, *([Text(_TEXT.value)] if _TEXT.value else []))
    turns = [Turn("system", (Text(_SYSTEM.value),))] if _SYSTEM.value else []
    turns.append(Turn("user", asked))
    reading = ReadingConfig(stored.config.audio, features=stored.features, image=stored.image, sequence=stored.sequence)
    count = count_conversation(turns, tokenizer, reading, reply=True)
    print(f"[{count.total} tokens: {count.text} text, {count.audio} audio, {count.image} image, {count.video} video]")
    began = time.monotonic()
    example = stream_conversation(turns, tokenizer, reading, reply=True)
    first, said, calls = 0.0, [], []
    for text, new_calls in _answer(stored.config, params, tokenizer, example, sampling):
        first = first or time.monotonic() - began
        print(text, end="", flush=True)
        said.append(text)
        calls += [dataclasses.asdict(call) for call in new_calls]
    print()
    for call in calls:
        print(f"tool call: {json.dumps(call, ensure_ascii=False)}")
    seconds = time.monotonic() - began
    print(f"[first text after {first:.2f} s, all after {seconds:.2f} s, compilation included]")
    times = {"first_text_seconds": first, "seconds": seconds}
    return {"text": "".join(said), "tool_calls": calls, "tokens": count._asdict(), **times}


def _answer(config: Any, params: Any, tokenizer: Any, example: Any, sampling: Any) -> Iterator[tuple[str, Any]]:
    """Pieces of speakable text, and tool calls that are complete with them."""
    from qomni_jax.inference.prompts import Prompt
    from qomni_jax.inference.text import TextGenerator
    from qomni_jax.layers.language_model import unstack_language_model
    from qomni_jax.sequence.replies import ReplyParser
    from qomni_jax.sequence.special_tokens import IM_END, PADDING
    from qomni_jax.thinker import encode_media

    features, (slots,) = encode_media([example], config, params)
    sequence = example.sequence
    generator = TextGenerator(
        *unstack_language_model(config.language_model, params["language_model"]),
        capacity=sequence.num_tokens + _TOKENS.value,
        stop_tokens=(tokenizer.special(IM_END), tokenizer.special(PADDING)),
        sampling=sampling,
    )
    prompt = Prompt(sequence.tokens, sequence.positions, slots)
    parser, ids, shown = ReplyParser(), [], ""
    for token in generator.stream(prompt, _TOKENS.value, features=features):
        ids.append(token)
        text = tokenizer.decode(ids)
        if text.endswith("\ufffd"):
            continue  # a character is not complete yet
        reply = parser.feed(text[len(shown) :])
        shown = text
        yield reply.text, reply.tool_calls
    reply = parser.feed(tokenizer.decode(ids)[len(shown) :])
    yield reply.text + parser.close().text, reply.tool_calls


def _fail(message: str) -> NoReturn:
    print(f"talk: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main)
