"""The encoders on a CPU against transformers on torch, log-mel against librosa, and the memory of a long recording.

Claim: AuT on 300 s is at least 1.5 times as fast as the peer's, on 30 s as fast, the vision towers are a little faster;
log-mel is twice as fast as librosa's; a recording of an hour goes from its file to tokens in the memory of one of ten
minutes. Wanted are 1.5 throughout and 3 for log-mel: docs/benchmarks.md says what stands in the way.
Cost: about three minutes on two cores with the peer, most of it 300 s of audio and the hour; 4 GB with the peer.
Command: python -m experiments.bench encoders --peer --json=F

Work: float32, random weights and inputs. `aut` is the encoder of Qwen3-Omni's form (three convolutions on chunks of 100
frames, windows of 104 tokens) with 192 channels and 8 blocks of width 512, 8 heads, MLPs of 2,048: 390 and 3,900 tokens
of log-mel frames that are there already. `vit` is the vision tower of Qwen3.5 with as many blocks of that size on 4
images of 448 x 448 (784 patches, 196 tokens each); `deepstack` is Qwen3-Omni's, three blocks merged as well. The peer
attends by `sdpa` or `eager`, whichever is faster. `log-mel` is 128 bins of samples at 16 kHz, as `audio.features`
defines them; librosa runs in this process. `file to tokens` is the growth of the peak of resident memory
(`experiments.bench.long_file`; where Linux counts it).
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import long_file
from experiments.bench.devices import initialise, usable_cores
from experiments.bench.timing import Case, Figure, jitted
from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.audio.features import encoder_features
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.vision.tower import VisionEncoder

PEER_MODULE = "experiments.bench.peer_encoders"
FRAMES_PER_SECOND = 100
IMAGES, SIDE = 4, 28  # images, and the patches along each of their sides

BLOCKS = EncoderConfig(model_dim=512, num_layers=8, num_heads=8, mlp_dim=2048)
AUT = AudioEncoderConfig(
    encoder=BLOCKS,
    output_dim=1024,
    chunk_frames=100,
    num_convs=3,
    conv_channels=192,
    conv_batch=5,  # what these chunks become stays in the cache that the cores share
    window=104,
    projector="mlp",
)
VIT = VisionEncoderConfig(encoder=dataclasses.replace(BLOCKS, norm_eps=1e-6, gelu="tanh"), output_dim=1024)
DEEPSTACK = dataclasses.replace(VIT, deepstack_layers=(2, 4, 6))
LOG_MEL = AudioFeatureConfig()


def cases(repeats: int) -> list[Case | Figure]:
    del repeats
    found: list[Case | Figure] = []
    for seconds in (30, 300):
        frames = seconds * FRAMES_PER_SECOND
        work = {"encoder": "aut", "frames": frames, "tokens": AUT.num_tokens(frames), "config": aut_peer_config()}
        build = functools.partial(_aut, frames)
        found.append(Case(f"aut {seconds} s fp32", build, _forms(work), aut_flops(AUT, frames)))
    for name, encoder, config in (("vit", "qwen3_5 vit", VIT), ("vit deepstack", "qwen3_omni vit", DEEPSTACK)):
        work = {
            "encoder": encoder,
            "grids": [[1, SIDE, SIDE]] * IMAGES,
            "patch": config.patch_dim,
            "tokens": IMAGES * SIDE**2 // config.merged_patches,
            "config": vit_peer_config(config),
        }
        build = functools.partial(_vit, config)
        found.append(Case(f"{name} {IMAGES} images fp32", build, _forms(work), vit_flops(config, IMAGES, SIDE**2)))
    found.append(Case("log-mel 600 s", functools.partial(_log_mel, 600), beside=functools.partial(_librosa, 600)))
    if long_file.PEAK.exists():
        for name, seconds in (("10 min", 600), ("1 h", 3600)):
            found.append(Figure(f"{name} file to tokens", functools.partial(long_file.growth, seconds), "MB"))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def _forms(work: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple({**work, "attention": attention} for attention in ("sdpa", "eager"))


def aut_peer_config() -> dict[str, Any]:
    """AuT in the words of the peer."""
    e = AUT.encoder
    return {
        "num_mel_bins": AUT.num_mels,
        "encoder_layers": e.num_layers,
        "encoder_attention_heads": e.num_heads,
        "encoder_ffn_dim": e.mlp_dim,
        "d_model": e.model_dim,
        "output_dim": AUT.output_dim,
        "downsample_hidden_size": AUT.conv_channels,
        "n_window": AUT.chunk_frames // 2,
        "n_window_infer": AUT.window_frames,
    }


def vit_peer_config(config: VisionEncoderConfig) -> dict[str, Any]:
    """A vision tower in the words of the peer."""
    e = config.encoder
    found: dict[str, Any] = {
        "depth": e.num_layers,
        "hidden_size": e.model_dim,
        "num_heads": e.num_heads,
        "intermediate_size": e.mlp_dim,
        "out_hidden_size": config.output_dim,
        "patch_size": config.patch_size,
        "temporal_patch_size": config.temporal_patch_size,
        "spatial_merge_size": config.merge_size,
        "num_position_embeddings": config.position_side**2,
    }
    if config.deepstack_layers:
        found["deepstack_visual_indexes"] = list(config.deepstack_layers)
    return found


def aut_flops(config: AudioEncoderConfig, frames: int) -> float:
    """Of the products for a clip of whole chunks and windows."""
    dim, mels, steps, channels, total = config.encoder.model_dim, config.num_mels, config.chunk_frames, 1, 0
    for _ in range(config.num_convs):
        mels, steps = -(-mels // 2), -(-steps // 2)
        total += 9 * channels * config.conv_channels * mels * steps
        channels = config.conv_channels
    total += steps * channels * mels * dim
    each = _block_products(config.encoder, config.window or 0) + dim * (dim + config.output_dim)
    return 2.0 * (frames // config.chunk_frames * total + config.num_tokens(frames) * each)


def vit_flops(config: VisionEncoderConfig, images: int, patches: int) -> float:
    """Of the products for images of that many patches."""
    dim, merged = config.encoder.model_dim, config.merged_patches * config.encoder.model_dim
    merger = merged * (merged + config.output_dim) / config.merged_patches
    each = config.patch_dim * dim + _block_products(config.encoder, patches)
    return 2.0 * images * patches * (each + (1 + len(config.deepstack_layers)) * merger)


def _block_products(config: EncoderConfig, seen: int) -> int:
    """Products a token in all blocks, where it sees that many."""
    d = config.model_dim
    return config.num_layers * (4 * d * d + 2 * d * config.mlp_dim + 2 * seen * d)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _encode(model: Any, *inputs: Any) -> Callable[[], Any]:
    """`model`, an encoder, with random weights on these inputs."""
    params = initialise(lambda: model.init(jax.random.key(0), *inputs)["params"])
    return jitted(lambda params, *args: model.apply({"params": params}, *args), params, *map(jnp.asarray, inputs))


def _aut(frames: int) -> Callable[[], Any]:
    return _encode(AudioEncoder(AUT), _normal(1, frames, AUT.num_mels), np.array([frames], np.int32))


def _vit(config: VisionEncoderConfig) -> Callable[[], Any]:
    patches = _normal(IMAGES, SIDE**2, config.patch_dim)
    return _encode(VisionEncoder(config), patches, np.full((IMAGES, 2), SIDE, np.int32))


def _samples(seconds: int) -> np.ndarray:
    return 0.1 * _normal(seconds * LOG_MEL.sample_rate)


def _log_mel(seconds: int) -> Callable[[], Any]:
    samples, threads = _samples(seconds), usable_cores()
    encoder_features(samples[: LOG_MEL.sample_rate], LOG_MEL)
    return lambda: encoder_features(samples, LOG_MEL, threads=threads)


def librosa_features(samples: np.ndarray) -> np.ndarray:
    """librosa's log-mel with the floor and the scale of `encoder_features`; one frame more, features first."""
    import librosa

    c = LOG_MEL
    mel = librosa.feature.melspectrogram(
        y=samples, sr=c.sample_rate, n_fft=c.window_size, hop_length=c.hop_size, n_mels=c.num_mels, pad_mode="reflect"
    )
    return (np.maximum(np.log10(np.maximum(mel, c.mel.clip)), c.floor_level) + 4.0) / 4.0


def _librosa(seconds: int) -> Callable[[], Any]:
    samples = _samples(seconds)
    librosa_features(samples[: LOG_MEL.sample_rate])
    return lambda: librosa_features(samples)
