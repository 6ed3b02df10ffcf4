"""Frames and sound as one video file in memory, the same bytes each time."""

from fractions import Fraction
import io
from typing import Any

import av
import numpy as np

SAMPLE_RATE = 16_000
# Picture codec, its pixels and options; sound codec and its options. The second kind is lossless.
CONTAINERS: dict[str, tuple[str, str, dict[str, str], str, dict[str, str]]] = {
    "mp4": (
        *("libx264", "yuv420p", {"preset": "veryfast", "crf": "18", "bf": "0", "threads": "1"}),
        *("aac", {"b": "32000", "aac_coder": "fast"}),
    ),
    "mkv": ("ffv1", "bgr0", {"threads": "1"}, "flac", {}),
}


def encode_video(frames: np.ndarray, frames_per_second: int, samples: np.ndarray, container: str) -> bytes:
    """The file of `frames`, uint8 RGB `[frames, height, width, 3]`, and `samples`, int16 `[n]` at 16 kHz, mono.

    `container` is one of `CONTAINERS`; both tracks start at time zero.
    """
    codec, pixels, options, sound_codec, sound_options = CONTAINERS[container]
    file = io.BytesIO()
    name = "matroska" if container == "mkv" else container
    # Without this a file tells when it was written, and by what.
    with av.open(file, "w", format=name, options={"fflags": "+bitexact"}) as writer:
        stream: Any = writer.add_stream(codec, rate=frames_per_second, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.time_base = Fraction(1, frames_per_second)
        track: Any = writer.add_stream(sound_codec, rate=SAMPLE_RATE, options=sound_options, layout="mono")
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, frames_per_second)
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
        sound = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        writer.mux(track.encode(sound))
        writer.mux(track.encode(None))
    return file.getvalue()
