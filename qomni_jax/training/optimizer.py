"""The optimiser."""

import jax
import optax

from qomni_jax.config.training import OptimizerConfig


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW for a run of `steps`; matrices decay, vectors (norms, gates) do not."""
    warmup = min(config.warmup_steps, max(1, steps // 4))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, steps, end_value=config.final_scale * config.learning_rate
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            schedule,
            b1=config.beta1,
            b2=config.beta2,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1 and p.shape[-2] > 1, params),
        ),
    )
