"""One turn with a Thinker: files and a question in, text out as it comes, and with --out speech.

Command: python -m experiments.talk --checkpoint=DIR [--image=F ...] [--audio=F ...] [--video=F ...] --text="..."
  [--out=F.wav --speaker=Ethan]

`DIR` is a Thinker of this system (`thinker.storage.save_thinker`), what `python -m qomni_jax.interop convert` wrote, or
a released checkpoint that `inspect` accepts (Qwen3.5 with vision, or Qwen3-Omni), with its tokenizer.json. Media come
before the text, in the order images, recordings, videos. A video brings its sound along when the model hears. Media may
be of any length: they are decoded and encoded piece by piece, and what stays in memory is what the encoders give and
the caches.

With --out a whole Qwen3-Omni speaks: its Talker starts on the first words while the Thinker goes on writing,
and the wav grows as samples come, under the name F.part.wav until it is complete (`wav`). Code, addresses and other
text that is not for the ear is printed and not spoken (`sequence.speakable`). Speech that does not end by itself is
stopped once its text has been read (`inference.runaway`). Printed at the end are the latency of the first packet, from
the last input to the first samples, the real-time factor behind it, and why speech is over.
Cost: what the checkpoint costs; a tiny one answers in seconds on a CPU.
"""

from collections.abc import Sequence
import contextlib
import json
from pathlib import Path
import sys
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
_SEED = flags.DEFINE_integer("seed", 0, "of the draws, of text and of speech.")
_WARM_UP = flags.DEFINE_bool("warmup", False, "read the question once before, so that no time includes compilation.")
_JSON = flags.DEFINE_string("json", None, "where the answer, its tool calls and its times are written.")

_OUT = flags.DEFINE_string("out", None, "the wav that is written; without it the answer is text alone.")
_SPEAKER = flags.DEFINE_string("speaker", "Ethan", "with --out: who speaks, a name of the release.")
_TALKER_TEMPERATURE = flags.DEFINE_float("talker_temperature", 0.9, "with --out: of codebook 0; 0: all are greedy.")
_TALKER_TOP_K = flags.DEFINE_integer("talker_top_k", 50, "with --out: of codebook 0; 0: all.")
_TALKER_TOP_P = flags.DEFINE_float("talker_top_p", 1.0, "with --out: of codebook 0.")
_TALKER_PENALTY = flags.DEFINE_float("talker_repetition_penalty", 1.05, "with --out: of codebook 0.")
_MTP_TOP_K = flags.DEFINE_integer("mtp_top_k", 50, "with --out: of the other codebooks; 0: all.")
_MTP_TOP_P = flags.DEFINE_float("mtp_top_p", 0.8, "with --out: of the other codebooks.")
_MAX_FRAMES = flags.DEFINE_integer("max_frames", 4096, "with --out: the longest speech; 12.5 a second.", lower_bound=1)
_STOP_RUNAWAY = flags.DEFINE_bool("stop_runaway", True, "with --out: stop loops, silence and speech that is too long.")


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
    except KeyboardInterrupt:
        _fail("interrupted")
    if _JSON.value:
        from experiments.files import write_atomically

        write_atomically(Path(_JSON.value), json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def talk(checkpoint: str) -> dict[str, Any]:
    """Answers what the flags ask, and returns the record of `--json`. Raises ValueError and OSError with one line."""
    from experiments.talk.wav import WavStream, require_writable

    out = Path(_OUT.value) if _OUT.value is not None else None
    if out is not None:
        require_writable(out)
    from experiments.talk.question import Asked, Question
    from experiments.talk.turn import take_turn

    model = _open(checkpoint)
    asked = Asked(_IMAGES.value, _AUDIO.value, _VIDEOS.value, _SOUND.value, _TEXT.value, _SYSTEM.value)
    question = Question(asked, model.stored, model.tokenizer)
    opened: contextlib.AbstractContextManager[WavStream | None] = contextlib.nullcontext()
    if out is not None:
        opened = WavStream(out, model.sample_rate)
    with opened as sound:
        return take_turn(model, question, sound, warm_up=_WARM_UP.value)


def _open(checkpoint: str) -> Any:
    """The model that answers: with speech, if there is somewhere to write it."""
    from qomni_jax.config.sampling import SamplingConfig

    seed = _SEED.value
    sampling = SamplingConfig(_TEMPERATURE.value, _TOP_K.value, _TOP_P.value, _MIN_P.value, _PENALTY.value, seed)
    if _OUT.value is None:
        from experiments.talk.answers import TextAnswers

        return TextAnswers(checkpoint, sampling, _TOKENS.value)
    from experiments.talk.qwen3_omni import SpokenAnswers, Voice
    from qomni_jax.config.runaway import RunawayConfig

    temperature = _TALKER_TEMPERATURE.value
    voice = Voice(
        _SPEAKER.value,
        SamplingConfig(temperature, _TALKER_TOP_K.value, _TALKER_TOP_P.value, 0.0, _TALKER_PENALTY.value, seed),
        SamplingConfig(1.0 if temperature else 0.0, _MTP_TOP_K.value, _MTP_TOP_P.value, seed=seed),
        _MAX_FRAMES.value,
        RunawayConfig() if _STOP_RUNAWAY.value else None,
    )
    return SpokenAnswers(checkpoint, sampling, _TOKENS.value, voice)


def _fail(message: str) -> NoReturn:
    print(f"talk: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main)
