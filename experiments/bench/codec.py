"""The released ancestors' codecs on a CPU against transformers on torch: at once, and streamed frame by frame.

Claim: a minute of codes becomes sound at least twice as fast as the peer's Code2Wav; a streamed frame costs the same at
the start of a stream and after 5,000 frames.
Cost: about three minutes on two cores with the peer.
Command: python -m experiments.bench codec --peer [--json=F]

Work: float32, random weights. `code2wav` is Qwen3-Omni's at a quarter of its channels and half of its width: 8 layers
of 512, from 384 channels to 24 at the sample rate, 16 codes of 2,048 (the release: 1,024, 1,536, 96); the peer decodes
at once or in its own chunks of 300 frames, whichever is faster. `mimi` is Mimi at half of its sizes, 8 codebooks.
`streamed` is one frame a call, the mean of all; `frame N` the same late in a stream, the mean of 20.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import numpy as np

from experiments.bench.timing import Case
from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.codec.waveform_model import initial_state
from qomni_jax.codec.waveform_stream import stream_function
from qomni_jax.config.waveform_codec import ConvStackConfig, WaveformCodecConfig, WindowTransformerConfig
from qomni_jax.interop.codec_families import parse_codec

PEER_MODULE = "experiments.bench.peer_codec"
FRAMES, MIMI_FRAMES, STREAMED = 750, 250, 50  # of 80 ms
AT, REPEATED = (10, 100, 1_000, 5_000), 20

_ATTENTION = {"num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 8, "hidden_act": "silu"}
CODE2WAV: dict[str, Any] = {
    **_ATTENTION,
    "codebook_size": 2048,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_quantizers": 16,
    "sliding_window": 72,
    "rms_norm_eps": 1e-5,
    "layer_scale_initial_scale": 0.01,
    "max_position_embeddings": 8000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "decoder_dim": 384,
    "upsample_rates": [8, 5, 4, 3],
    "upsampling_ratios": [2, 2],
}
MIMI: dict[str, Any] = {
    **_ATTENTION,
    "model_type": "mimi",
    "hidden_act": "gelu",
    "hidden_size": 256,
    "intermediate_size": 1024,
    "head_dim": 32,
    "num_filters": 32,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 6, 5, 4],
    "codebook_size": 2048,
    "codebook_dim": 128,
    "vector_quantization_hidden_dimension": 128,
    "upsample_groups": 256,
    "num_quantizers": 8,
    "num_semantic_quantizers": 1,
    "kernel_size": 7,
    "last_kernel_size": 3,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "compress": 2,
    "norm_eps": 1e-5,
    "sampling_rate": 24_000,
    "sliding_window": 250,
    "max_position_embeddings": 8000,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}


def cases(repeats: int) -> list[Case]:
    del repeats
    form = {"codec": "code2wav", "config": CODE2WAV, "frames": FRAMES}
    forms = tuple({**form, "at_once": at_once} for at_once in (True, False))
    flops = codec_flops(codec_config("code2wav"), FRAMES)
    found = [
        Case(f"code2wav decode {FRAMES} frames fp32", functools.partial(_decode, "code2wav", FRAMES), forms, flops)
    ]
    config = {name: value for name, value in MIMI.items() if name != "model_type"}
    work = {"codec": "mimi", "config": config, "frames": MIMI_FRAMES, "samples": 1920}
    for what, build in (("decode", functools.partial(_decode, "mimi", MIMI_FRAMES)), ("encode", _encode)):
        found.append(Case(f"mimi {what} {MIMI_FRAMES} frames fp32", build, ({**work, "what": what},)))
    for name, method in (("code2wav", "decode"), ("mimi", "decode"), ("mimi", "encode")):
        build = functools.partial(_streamed, name, method, 0, STREAMED)
        found.append(Case(f"{name} {method} streamed fp32", build, steps=STREAMED))
    for at in AT:
        build = functools.partial(_streamed, "code2wav", "decode", at, REPEATED)
        found.append(Case(f"code2wav frame {at} fp32", build, steps=REPEATED))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many times as long a streamed frame takes as one of many at once."""
    seconds, found = {row["case"]: row["ours"] for row in rows}, []
    for name, method, frames in (
        ("code2wav", "decode", FRAMES),
        *(("mimi", m, MIMI_FRAMES) for m in ("decode", "encode")),
    ):
        streamed, whole = (seconds.get(f"{name} {method} {form} fp32") for form in ("streamed", f"{frames} frames"))
        if streamed and whole:
            row = {"case": f"{name} {method} streamed, of at once", "ours": streamed * frames / whole, "unit": "times"}
            found.append({**row, "peer": None, "ratio": None, "higher_is_better": False})
    return found


@functools.cache
def codec_config(name: str) -> WaveformCodecConfig:
    return parse_codec(MIMI if name == "mimi" else CODE2WAV).config


@functools.cache
def _codec(name: str) -> WaveformCodec:
    return WaveformCodec.initialise(codec_config(name))


def _codes(name: str, frames: int) -> np.ndarray:
    quantizer = codec_config(name).quantizer
    shape = (frames, quantizer.num_codebooks)
    return np.random.default_rng(0).integers(0, quantizer.codebook_size, shape, np.int32)


def _warm(call: Callable[[], Any]) -> Callable[[], Any]:
    for _ in range(2):
        call()
    return call


def _decode(name: str, frames: int) -> Callable[[], Any]:
    codec, codes = _codec(name), _codes(name, frames)
    return _warm(lambda: codec.decode_codes([codes]))


def _samples(frames: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(frames * 1920, np.float32)


def _encode() -> Callable[[], Any]:
    codec, samples = _codec("mimi"), _samples(MIMI_FRAMES)
    return _warm(lambda: codec.encode_audio([samples]))


def _streamed(name: str, method: str, seen: int, frames: int) -> Callable[[], Any]:
    """`frames` calls of one frame each, in a stream that has come so far."""
    codec, step = _codec(name), stream_function(codec_config(name), method)
    kept = [initial_state(codec.config, method, 1)]
    part = {"decode": "decoder", "encode": "encoder"}[method]
    kept[0] = {**kept[0], part: {**kept[0][part], "seen": np.full(1, seen, np.int32)}}
    inputs: list[tuple[Any, ...]]
    if method == "decode":
        inputs = [(one[None, None],) for one in _codes(name, frames)]
    else:
        inputs = [(one, np.array([1920], np.int32)) for one in _samples(frames).reshape(frames, 1, 1920)]

    def call() -> Any:
        for given in inputs:
            out, kept[0] = step(codec.params, kept[0], *given)
            jax.block_until_ready(out)

    return _warm(call)


def codec_flops(config: WaveformCodecConfig, frames: int) -> float:
    """Operations that the products of so many frames need, from features to samples."""
    c, width = config.decoder, config.decoder.transformer.width
    steps = float(c.pre_upsampling)
    total = c.pre_conv * config.quantizer.model_dim * width + steps * _transformer_products(c.transformer)
    for ratio in c.upsampling_ratios:
        steps *= ratio
        total += steps * 9 * width * width  # the transposed convolution, and two products of four times the width
    return 2.0 * frames * (total + _stack_products(c.stack, width, steps))


def _transformer_products(c: WindowTransformerConfig) -> float:
    heads = c.num_heads + c.num_kv_heads
    mixing = 2 * c.model_dim * heads * c.head_dim + 2 * c.num_heads * c.head_dim * c.window
    layer = mixing + (3 if c.mlp == "swiglu" else 2) * c.model_dim * c.mlp_dim
    outer = 0 if c.outer_dim is None else 2 * c.outer_dim * c.model_dim
    return float(c.num_layers * layer + outer)


def _stack_products(c: ConvStackConfig, features: int, steps: float) -> float:
    """Of the convolutions behind `steps` steps of features."""
    width = c.frame_channels
    total = steps * c.kernel_size * features * width
    for rate in c.rates:
        total += steps * width * 2 * rate * (width // 2)
        steps, width = steps * rate, width // 2
        inner = width // c.compress
        total += steps * len(c.dilations) * (c.residual_kernel_size + 1) * width * inner
    return total + steps * c.last_kernel_size * width
