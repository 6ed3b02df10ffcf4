"""Codec training: PCA and k-means in closed form, then the vocoder and the quantiser together by gradient descent."""

from collections.abc import Callable, Sequence
import dataclasses
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from qomni_jax.codec.checkpoints import Checkpoints
from qomni_jax.codec.codec import Codec
from qomni_jax.codec.crops import CropPool, build_pool
from qomni_jax.codec.losses import mel_loss, stft_loss
from qomni_jax.codec.model import CodecModel
from qomni_jax.codec.rvq import initial_parameters
from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, eq=False)
class FitResult:
    """A trained codec and how it got there.

    Attributes:
      codec: the codec.
      history: losses by name every `log_every` steps, with their `step`.
      usage: for each level, `used` (fraction of entries chosen at least once) and `perplexity` of the choice.
      seconds: wall time of this call.
    """

    codec: Codec
    history: list[dict[str, float]]
    usage: list[dict[str, float]]
    seconds: float


def fit(
    recordings: Sequence[np.ndarray],
    config: CodecConfig,
    training: CodecTrainingConfig,
    workdir: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> FitResult:
    """Trains a codec on recordings, int16 or float `[n]` at `config.sample_rate`.

    With a `workdir` the run checkpoints there, and a later call with the same arguments continues it exactly.

    Args:
      progress: called with one line of text at each stage and every `training.log_every` steps.

    Raises:
      ValueError: no usable recordings, fewer frames than codebook entries, or a `workdir` of another configuration.
    """
    started = time.monotonic()
    report = progress or (lambda line: None)
    checkpoints = Checkpoints(workdir, config, training) if workdir is not None else None
    codec = Codec.initialise(config, training.seed)
    pool = build_pool(recordings, codec, training.utterances, training.crop_frames, training.seed)
    optimizer = make_optimizer(training)
    resumed = checkpoints.restore(codec.params, optimizer) if checkpoints else None
    if resumed is None:
        step, history = 0, list[dict[str, float]]()
        params = dict(codec.params, rvq=_initial_rvq(pool, config, training))
        opt_state = optimizer.init(params)
        report(f"codec k-means: {len(pool.features)} frames, {time.monotonic() - started:.0f} s")
    else:
        step, history, params, opt_state = resumed
        report(f"codec continues at step {step}/{training.steps}")
    train_step = make_train_step(config, training, optimizer)
    begun, first = time.monotonic(), step
    while step < training.steps:
        crops = pool.crops(training.batch_size, training.crop_frames, step, training.seed)
        params, opt_state, metrics = train_step(params, opt_state, *crops)
        step += 1
        if step % training.log_every == 0 or step == training.steps:
            losses = {name: float(value) for name, value in metrics.items()}
            history.append({"step": step, **losses})
            left = (time.monotonic() - begun) / (step - first) * (training.steps - step)
            shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
            report(f"codec step {step}/{training.steps} {shown} left {left:.0f} s")
        if checkpoints and (step % training.checkpoint_every == 0 or step == training.steps):
            checkpoints.save(step, params, opt_state, history)
    codec = Codec(config, jax.tree.map(np.asarray, params))
    usage = codebook_usage(codec.encode_features([pool.features])[0], config.rvq.codebook_size)
    return FitResult(codec, history, usage, time.monotonic() - started)


def fit_quantizer(recordings: Sequence[np.ndarray], config: CodecConfig, training: CodecTrainingConfig) -> Codec:
    """The k-means stage alone: a codec whose codes and log-mels are usable and whose vocoder is untrained.

    Raises:
      ValueError: as `fit`.
    """
    return fit(recordings, config, dataclasses.replace(training, steps=0)).codec


def make_optimizer(training: CodecTrainingConfig) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay; the quantiser moves at its own scale, and only vocoder kernels decay."""
    warmup = min(training.warmup_steps, max(training.steps - 1, 0))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0 if warmup else training.learning_rate, training.learning_rate, warmup, max(training.steps, 1)
    )
    return optax.chain(
        optax.clip_by_global_norm(training.max_gradient_norm),
        optax.adamw(schedule, b1=0.9, b2=0.99, weight_decay=training.weight_decay, mask=_decayed),
        optax.masked(optax.scale(training.rvq_learning_rate_scale), _quantizer),
    )


def make_train_step(config: CodecConfig, training: CodecTrainingConfig, optimizer: optax.GradientTransformation):
    """Jitted `(params, opt_state, stacked log-mel [B, S, D], int16 samples [B, n]) -> params, opt_state, metrics`."""
    model = CodecModel(config)

    def loss_fn(params, stacked, samples):
        mel = stacked.reshape(stacked.shape[0], -1, config.log_mel.num_mels)
        outputs = model.apply({"params": params}, mel)
        target = samples[:, : outputs["samples"].shape[1]].astype(jnp.float32) / 32_768.0
        losses = {
            "stft": stft_loss(outputs["samples"], target),
            "mel": mel_loss(outputs["samples"], mel, config.log_mel),
            "fidelity": mel_loss(outputs["samples"], jax.lax.stop_gradient(outputs["mel"]), config.log_mel),
            "reconstruction": jnp.mean(jnp.abs(outputs["mel"] - mel)),
            "commitment": outputs["commitment"],
        }
        total = (
            training.stft_weight * losses["stft"]
            + training.mel_weight * losses["mel"]
            + training.fidelity_weight * losses["fidelity"]
            + training.reconstruction_weight * losses["reconstruction"]
            + training.commitment_weight * (outputs["commitment"] + outputs["codebook"])
        )
        return total, {"loss": total, **losses}

    def train_step(params, opt_state, stacked, samples):
        (_, metrics), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params, stacked, samples)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, metrics

    return jax.jit(train_step, donate_argnums=(0, 1))


def codebook_usage(codes: np.ndarray, codebook_size: int) -> list[dict[str, float]]:
    """Use of each level's entries, integers `[N, Q]` -> `used` (fraction) and `perplexity` a level."""
    usage = []
    for level in codes.T:
        share = np.bincount(level, minlength=codebook_size) / max(len(level), 1)
        chosen = share[share > 0]
        perplexity = float(np.exp(-np.sum(chosen * np.log(chosen))))
        usage.append({"used": len(chosen) / codebook_size, "perplexity": perplexity})
    return usage


def _initial_rvq(pool: CropPool, config: CodecConfig, training: CodecTrainingConfig) -> dict[str, jax.Array]:
    fitted = initial_parameters(pool.features, config.rvq, training.kmeans_iterations, training.seed)
    return {name: jnp.asarray(value) for name, value in fitted.items()}


def _decayed(params: Any) -> Any:
    return {
        part: jax.tree.map(lambda leaf, part=part: part == "vocoder" and leaf.ndim == 2, params[part])
        for part in params
    }


def _quantizer(params: Any) -> Any:
    return {part: jax.tree.map(lambda _, part=part: part == "rvq", params[part]) for part in params}
