"""Hours of sound and minutes of video through the whole Thinker of tiny size on a CPU, in bounded memory.

Claim: 10 hours of sound are at most 225,000 tokens besides timestamps, 400 seconds of 720p at a frame a second fit a
context of 262,144 tokens, and both are read, encoded and prefilled piece by piece: while they are read and encoded,
memory does not grow with them, but for the table of what the encoders give.
Cost: of one core's time on an AVX-512 CPU, with making the files: 10 s for ten minutes of sound, 310 s for ten hours
(60 to read and encode, 240 to prefill), 15 s for the video within 25 million pixels; that with every pixel takes most
of the ten hours' time again. A GB of memory and 0.65 GB of disk.
Command: python -m experiments.bench long_context [--cases="10 min"] [--json=F]

Files are made on the fly: FLAC of tones, mp4 of moving bars. The Thinker is `thinker_tiny` with one 3+1 period instead
of two (one layer of attention), random weights. A row has the tokens as counted before anything is decoded (`tokens` by
kind, `total`, `fits`), `features`, the places that got an encoder's output, `ours`, the seconds of it all, of which
`encode_seconds` to read and encode and `prefill_seconds` (compilation included; with `_cpu_`: of processor time),
`table_bytes` and `cache_bytes`, and `rss_growth`: the peak of resident memory during the last four fifths of reading
and encoding, above what it was before them; None where the system does not count peaks anew.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import functools
import pathlib
import re
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.conversations import ReadingConfig, count_conversation, stream_conversation
from data_pipelines.media.sampling import FrameSampling
from data_pipelines.media.synthetic import write_bars, write_tones
from experiments.bench.devices import initialise
from experiments.bench.timing import describe
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.text import TextGenerator
from qomni_jax.layers.language_model import unstack_language_model
from qomni_jax.sequence.chat import Audio, Text, Turn, Video
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.timestamps import format_timestamp
from qomni_jax.sizes import thinker_tiny
from qomni_jax.thinker import Media, StreamedExample, Thinker, encode_media

CONTEXT = 262_144
CHUNK = 4_096
FRAMES, HEIGHT, WIDTH = 400, 720, 1280  # of a video, one a second
_BLOCK_FRAMES = 1_000  # log-mel frames of a block of samples, ten seconds
_STATUS, _PEAKS = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True)
class Case:
    """A recording of `seconds`, or a video whose frames together have at most `pixels` pixels."""

    name: str
    seconds: int = 0
    pixels: int = 0

    def write(self, directory: pathlib.Path) -> Audio | Video:
        """Makes the file."""
        if self.seconds:
            write_tones(directory / "tones.flac", self.seconds)
            return Audio(directory / "tones.flac")
        write_bars(directory / "bars.mp4", FRAMES, HEIGHT, WIDTH)
        return Video(directory / "bars.mp4")

    def reading(self, config: ThinkerConfig) -> ReadingConfig:
        reading = ReadingConfig(config.audio, sampling=FrameSampling(fps=1.0))
        return dataclasses.replace(reading, max_video_pixels=self.pixels) if self.pixels else reading


CASES = (
    Case("recording 10 min", seconds=600),
    Case("recording 10 h", seconds=36_000),
    Case("video 400 s 720p, 25 Mpixel", pixels=ReadingConfig.max_video_pixels),
    Case("video 400 s 720p, every pixel", pixels=FRAMES * HEIGHT * WIDTH),
)


def run(only: str = "") -> list[dict[str, Any]]:
    """A row for every case whose name matches the regular expression `only`; prints each as it is done."""
    rows = []
    for case in CASES:
        if re.search(only, case.name):
            with tempfile.TemporaryDirectory() as directory:
                rows.append(run_case(case, pathlib.Path(directory)))
            print(describe(rows[-1]), flush=True)
            print("".join(f"    {key} {value}\n" for key, value in rows[-1].items() if key not in _SHOWN), flush=True)
    return rows


_SHOWN = ("case", "ours", "unit", "peer", "ratio", "higher_is_better")


def run_case(case: Case, directory: pathlib.Path) -> dict[str, Any]:
    """Makes the medium, counts it, reads, encodes and prefills it."""
    config, params = model()
    media = case.write(directory)
    began, cpu = time.perf_counter(), time.process_time()
    conversation = [Turn("user", (media, Text("what?")))]
    reading = case.reading(config)
    count = count_conversation(conversation, tokenizer(), reading, reply=True)
    example = stream_conversation(conversation, tokenizer(), reading, reply=True)
    peak = Peak()
    features, (slots,) = encode_media([peak.watch(example)], config, params)
    jax.block_until_ready(features)
    growth, encoded, encoded_cpu = peak.growth(), time.perf_counter(), time.process_time()
    sequence = example.sequence
    generator = TextGenerator(
        *unstack_language_model(config.language_model, params["language_model"]),
        capacity=sequence.num_tokens,
        prefill_chunk=CHUNK,
    )
    read = generator.prefill([Prompt(sequence.tokens, sequence.positions, slots)], features)
    if not np.isfinite(read.logits).all():
        raise ValueError(f"{case.name}: logits that are not finite: accepted are finite ones")
    done = time.perf_counter()
    assert features is not None
    return {
        "case": case.name,
        "ours": done - began,
        "peer": None,
        "ratio": None,
        "unit": "s",
        "higher_is_better": False,
        "tokens": count._asdict(),
        "total": count.total,
        "fits": count.total == sequence.num_tokens <= CONTEXT,
        "features": int(np.sum(slots >= 0)),
        "encode_seconds": encoded - began,
        "prefill_seconds": done - encoded,
        "encode_cpu_seconds": encoded_cpu - cpu,
        "prefill_cpu_seconds": time.process_time() - encoded_cpu,
        "rss_growth": growth,
        "table_bytes": features.table.nbytes,
        "cache_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(read.cache)),
    }


class Peak:
    """How far resident memory rises while the last four fifths of an example's media are walked over."""

    def __init__(self) -> None:
        self._before: int | None = None

    def watch(self, example: StreamedExample) -> StreamedExample:
        """The same example."""
        videos = [item._replace(patches=self._walk(item.patches, 1.0 / item.grid[0])) for item in example.videos]
        recordings = [
            item._replace(blocks=self._walk(item.blocks, _BLOCK_FRAMES / item.num_frames))
            for item in example.recordings
        ]
        return example._replace(videos=videos, recordings=recordings)

    def growth(self) -> int | None:
        """Bytes; None where the system does not count peaks anew."""
        peak = resident("VmHWM")
        # What is resident is counted with a delay of some pages.
        return None if self._before is None or peak is None else max(peak - self._before, 0)

    def _walk(self, parts: Iterable[np.ndarray], share: float) -> Iterator[np.ndarray]:
        """`share`: that of a part in the whole."""
        for number, part in enumerate(parts, 1):
            yield part
            if self._before is None and number * share >= 0.2:
                self._before = reset_peak()


def reset_peak() -> int | None:
    """Has the system count the peak of resident memory anew; what is resident now, None where it cannot."""
    try:
        _PEAKS.write_text("5")
    except OSError:
        return None
    return resident("VmRSS")


def resident(field: str) -> int | None:
    """Bytes of a field of the process's status."""
    if not _STATUS.exists():
        return None
    return next(int(line.split()[1]) << 10 for line in _STATUS.read_text().splitlines() if line.startswith(field))


@functools.cache
def tokenizer() -> ChatTokenizer:
    """One that spells timestamps as released ones do: a token a digit, one for the word."""
    times = [format_timestamp(float(time)) for time in range(400)]
    return ChatTokenizer.train([*times, "user\n", "assistant\n", "what?"], 330)


@functools.cache
def model() -> tuple[ThinkerConfig, Any]:
    """The Thinker and its parameters."""
    config = thinker_tiny(tokenizer().vocab_size)
    decoder = dataclasses.replace(config.language_model.decoder, periods=1)
    language_model = dataclasses.replace(config.language_model, decoder=decoder, num_mtp_layers=0)
    config = dataclasses.replace(config, language_model=language_model)
    assert config.audio is not None
    assert config.vision is not None
    media = Media(
        jnp.zeros((1, config.vision.merged_patches, config.vision.patch_dim)),
        jnp.full((1, 2), config.vision.merge_size, jnp.int32),
        jnp.zeros((1, config.audio.chunk_frames, config.audio.num_mels)),
        jnp.full(1, config.audio.chunk_frames, jnp.int32),
    )
    token = jnp.zeros((1, 1), jnp.int32)
    return config, initialise(lambda: Thinker(config).init(jax.random.key(0), token, slots=token, media=media))[
        "params"
    ]
