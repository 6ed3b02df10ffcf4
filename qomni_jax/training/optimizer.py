"""The optimiser."""

from typing import Any

import jax
import optax

from qomni_jax.config.training import OptimizerConfig

_DECAYED = ("['kernel']", "_proj']", "_embedding']", "_heads']")  # layer matrices, embeddings and heads


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW for a run of `steps`. Matrices decay; norms, gates and convolutions do not."""
    warmup = min(config.warmup_steps, steps // 4)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, steps, end_value=config.final_scale * config.learning_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, b1=config.beta1, b2=config.beta2, weight_decay=config.weight_decay, mask=_is_decayed),
    )


def _is_decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, p: jax.tree_util.keystr(path).endswith(_DECAYED) and p.ndim > 1, params
    )
