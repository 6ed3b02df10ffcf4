"""A small speaker encoder, trained apart from every Talker: who speaks, whatever is said, how fast, high or loud.

Log-mel frames of recordings brought to one level, a few convolutions, mean and deviation over time, a unit vector. It
learns to tell the training voices apart (additive margin softmax, Wang et al. 2018) and is used on others.
"""

from collections.abc import Sequence
import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
import optax

from qomni_jax.audio.log_mel import as_waveform, log_mel
from qomni_jax.config.codec import LogMelConfig
from qomni_jax.config.from_json import from_json
from qomni_jax.config.validation import check_types, require_positive
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.files import new_directory, read_json, write_json
from qomni_jax.storage.parameters import restore_parameters, save_parameters

_ROOT_MEAN_SQUARE = 0.1
_EMBED_ROWS = 64


@dataclasses.dataclass(frozen=True)
class SpeakerEncoderConfig:
    """Attributes:
    log_mel: the features.
    width, dim: of the convolutions and of the embedding.
    crop_frames: feature frames that it sees at a time.
    voices: how many it is trained on.
    utterances: recordings of training, drawn evenly from all.
    steps, batch_size, learning_rate, scale, margin, seed: of training; scale and margin are the softmax's.
    """

    voices: int
    log_mel: LogMelConfig = dataclasses.field(default_factory=LogMelConfig)
    width: int = 96
    dim: int = 64
    crop_frames: int = 160
    utterances: int = 2500
    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 2e-3
    scale: float = 20.0
    margin: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "voices", "width", "dim", "crop_frames", "utterances", "steps", "batch_size")


class _Encoder(nn.Module):
    """`[B, T, mels]` -> unit vectors `[B, dim]`."""

    config: SpeakerEncoderConfig

    @nn.compact
    def __call__(self, mel: Array) -> Array:
        c = self.config
        x = jax.nn.relu(nn.Conv(c.width, (5,), strides=2)(mel))
        for dilation in (2, 4):
            x = x + jax.nn.relu(nn.Conv(c.width, (3,), kernel_dilation=dilation)(nn.LayerNorm()(x)))
        pooled = jnp.concatenate([jnp.mean(x, axis=1), jnp.sqrt(jnp.var(x, axis=1) + 1e-6)], axis=-1)
        x = nn.Dense(c.dim)(nn.LayerNorm()(pooled))
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True, eq=False)
class SpeakerEncoder:
    """A trained encoder."""

    config: SpeakerEncoderConfig
    params: Any = dataclasses.field(repr=False)

    def embed(self, recordings: Sequence[np.ndarray]) -> np.ndarray:
        """Unit vectors `[recordings, dim]` of int16 or float `[n]`: the mean over crops that overlap by half."""
        crops = [self._crops(features(audio, self.config)) for audio in recordings]
        joined = np.concatenate(crops)
        padded = np.pad(joined, ((0, -len(joined) % _EMBED_ROWS), (0, 0), (0, 0)))
        vectors = np.concatenate(
            [
                np.asarray(_apply(self.config)(self.params, padded[start : start + _EMBED_ROWS]))
                for start in range(0, len(padded), _EMBED_ROWS)
            ]
        )
        ends = np.cumsum([len(item) for item in crops])[:-1]
        means = np.array([np.mean(part, axis=0) for part in np.split(vectors[: len(joined)], ends)])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def _crops(self, mel: np.ndarray) -> np.ndarray:
        size = self.config.crop_frames
        last = len(mel) - size
        starts = [*range(0, last, size // 2), last]
        return np.stack([mel[start : start + size] for start in starts])


def features(audio: np.ndarray, config: SpeakerEncoderConfig) -> np.ndarray:
    """Log-mel `[frames, mels]` at one level, about zero; a recording shorter than a crop is repeated."""
    waveform = as_waveform(audio)
    level = float(np.sqrt(np.mean(waveform**2)))
    mel = log_mel(waveform * (_ROOT_MEAN_SQUARE / max(level, 1e-5)), config.log_mel) + 4.0
    repeats = -(-config.crop_frames // max(len(mel), 1))
    return np.tile(mel, (repeats, 1)) if repeats > 1 else mel


def train_speaker_encoder(
    recordings: Sequence[np.ndarray], voices: Sequence[int], config: SpeakerEncoderConfig
) -> SpeakerEncoder:
    """An encoder that tells the `voices` (0 to `config.voices - 1`) of the `recordings` apart."""
    mels = [features(audio, config).astype(np.float16) for audio in recordings]
    labels = np.asarray(voices)
    model = _Encoder(config)
    key, head_key = jax.random.split(jax.random.key(config.seed))
    sample = jnp.zeros((1, config.crop_frames, config.log_mel.num_mels))
    params = {
        "encoder": model.init(key, sample)["params"],
        "head": jax.random.normal(head_key, (config.dim, config.voices)),
    }
    optimizer = optax.adamw(optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=1e-3)

    def loss_fn(params: Any, mel: Array, label: Array) -> Array:
        vectors = model.apply({"params": params["encoder"]}, mel)
        cosine = vectors @ (params["head"] / jnp.linalg.norm(params["head"], axis=0))
        logits = config.scale * (cosine - config.margin * jax.nn.one_hot(label, config.voices))
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, label))

    @jax.jit
    def step(params: Any, state: Any, mel: Array, label: Array) -> tuple[Any, Any]:
        updates, state = optimizer.update(jax.grad(loss_fn)(params, mel, label), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    rng = np.random.default_rng(config.seed)
    for _ in range(config.steps):
        chosen = rng.integers(len(mels), size=config.batch_size)
        starts = [rng.integers(len(mels[index]) - config.crop_frames + 1) for index in chosen]
        crops = [mels[index][s : s + config.crop_frames] for index, s in zip(chosen, starts, strict=True)]
        params, state = step(params, state, np.stack(crops).astype(np.float32), labels[chosen])
    return SpeakerEncoder(config, jax.tree.map(np.asarray, params["encoder"]))


def save_speaker_encoder(directory: Path, encoder: SpeakerEncoder) -> None:
    """Writes an encoder, whole or not at all."""
    with new_directory(directory) as partial:
        save_parameters(partial, encoder.params)
        write_json(partial / "config.json", dataclasses.asdict(encoder.config))


def open_speaker_encoder(directory: Path) -> SpeakerEncoder:
    """What `save_speaker_encoder` wrote. Raises ValueError naming what is missing or damaged."""
    config = from_json(SpeakerEncoderConfig, read_json(directory / "config.json"))
    sample = jnp.zeros((1, config.crop_frames, config.log_mel.num_mels))
    tree = jax.eval_shape(lambda: _Encoder(config).init(jax.random.key(0), sample))["params"]
    shapes = {path: leaf.shape for path, leaf in flat(tree).items()}
    return SpeakerEncoder(config, restore_parameters(directory, shapes))


@functools.lru_cache(maxsize=4)
def _apply(config: SpeakerEncoderConfig) -> Any:
    model = _Encoder(config)
    return jax.jit(lambda params, mel: model.apply({"params": params}, mel))
