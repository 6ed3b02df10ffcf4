"""Memory of reading a long recording from its file to the encoder's tokens, measured in a process of its own.

`python -m experiments.bench.long_file SECONDS` writes a flac file of that length, encodes it block by block with a
small encoder, and prints the growth of its peak of resident memory over what it held after two minutes of audio, which
start the backend, compile and fill the allocator's pools. Linux counts peaks anew on request.
"""

import gc
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import jax
import numpy as np
import soundfile

from data_pipelines.media.audio import SAMPLE_RATE, audio_blocks
from experiments.bench.devices import initialise
from experiments.bench.peer import ROOT
from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.audio.stream import encode_blocks
from qomni_jax.config.audio import AudioFeatureConfig
from qomni_jax.sizes import audio_encoder_small

ENCODER = audio_encoder_small()
WARM_UP = 120  # seconds of audio
PEAK = pathlib.Path("/proc/self/clear_refs")
_STATUS = pathlib.Path("/proc/self/status")


def growth(seconds: int) -> float:
    """MB (10^6 bytes) that a recording of `seconds` adds to the peak of a process that has read a short one."""
    command = [sys.executable, "-m", "experiments.bench.long_file", str(seconds)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["growth"]


def write_recording(path: pathlib.Path, seconds: int) -> None:
    """A flac file of tones, written second by second."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file:
        for second in range(seconds):
            file.write(0.3 * np.sin(2 * np.pi * (200 + second % 60) * time))


def count_tokens(path: pathlib.Path, params: Any) -> int:
    """Tokens of the file's sound, none of which is kept."""
    return sum(map(len, encode_blocks(audio_blocks(path), AudioFeatureConfig(), ENCODER, params)))


def main(seconds: int) -> None:
    one_frame = np.zeros((1, 1, ENCODER.num_mels), np.float32), np.ones(1, np.int32)
    params = initialise(lambda: AudioEncoder(ENCODER).init(jax.random.key(0), *one_frame)["params"])
    with tempfile.TemporaryDirectory() as directory:
        short, long = (pathlib.Path(directory) / name for name in ("short.flac", "long.flac"))
        write_recording(short, WARM_UP)
        write_recording(long, seconds)
        count_tokens(short, params)
        gc.collect()
        PEAK.write_text("5")
        before = _resident("VmRSS")
        tokens = count_tokens(long, params)
    print(json.dumps({"growth": (_resident("VmHWM") - before) / 1e6, "tokens": tokens}))


def _resident(field: str) -> int:
    """Bytes of resident memory, now (VmRSS) or at the peak (VmHWM)."""
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main(int(sys.argv[1]))
