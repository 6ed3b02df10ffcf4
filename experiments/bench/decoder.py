"""The hybrid mixture-of-experts decoder on a CPU against transformers on torch.

Claim: a model of 175 million parameters (12 layers, 32 experts of which 4 a token) reads 2,048 tokens at least 1.5
times as fast as the faster expert path of the peer (2.5 times at 8 rows), says a token 3 times as fast (4 times at 8
rows), and takes a forward and backward pass of training over 2,048 tokens 2.5 times as fast.
Cost: twelve minutes on two cores with the peer, most of it the peer's prefill of 8 rows; 6 GB.
Command: python -m experiments.bench decoder --peer --json=F

Work: float32, random weights. `prefill` fills the cache and gives the logits of the last token; `decode` is one greedy
token from a cache of 256 tokens, the mean of 32; `train` is the gradient of cross-entropy and balance loss.
"""

from collections.abc import Callable
import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.devices import initialise
from experiments.bench.timing import Case, jitted
from qomni_jax.config.decoder import (
    AttentionConfig,
    DecoderConfig,
    FeedForwardConfig,
    GatedDeltaNetConfig,
    LanguageModelConfig,
)
from qomni_jax.config.training import LanguageModelTrainingConfig
from qomni_jax.inference.text import TextGenerator, decode_step
from qomni_jax.layers.language_model import init_language_model
from qomni_jax.layers.linear import unbox
from qomni_jax.training.language_model_step import language_model_loss

PEER_MODULE = "experiments.bench.peer_decoder"
STEPS, CONTEXT, DECODED = 2048, 256, 32

CONFIG = LanguageModelConfig(
    vocab_size=32768,
    decoder=DecoderConfig(
        model_dim=512,
        periods=3,
        gdn=GatedDeltaNetConfig(num_key_heads=8, num_value_heads=16, head_key_dim=64, head_value_dim=64, chunk_size=64),
        attention=AttentionConfig(
            num_heads=8, num_kv_heads=2, head_dim=128, rope_theta=1e7, rotary_fraction=0.25, mrope_section=(6, 5, 5)
        ),
        feed_forward=FeedForwardConfig(hidden_dim=192, num_experts=32, top_k=4, expert_dim=192, dispatch="ring"),
    ),
)


def cases(repeats: int) -> list[Case]:
    found = []
    for rows in (1, 8):
        forms = _forms(what="prefill", rows=rows, steps=STEPS)
        build = functools.partial(_prefill, rows)
        flops = 2.0 * _active(head=False) * rows * STEPS
        found.append(Case(f"prefill T={STEPS} B={rows} fp32", build, forms, flops))
    for rows in (1, 8):
        forms = _forms(what="decode", rows=rows, context=CONTEXT, steps=DECODED)
        build = functools.partial(_decode, rows, CONTEXT + DECODED * (repeats + 3))
        flops = 2.0 * _active(head=True) * rows * DECODED
        found.append(Case(f"decode B={rows} fp32", build, forms, flops, DECODED))
    forms = _forms(what="train", rows=1, steps=STEPS)
    found.append(Case(f"train T={STEPS} B=1 fp32", _train, forms, 6.0 * _active(head=True) * STEPS))
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def _forms(**work: Any) -> tuple[dict[str, Any], ...]:
    return tuple({**work, "experts": experts, "config": peer_config()} for experts in ("eager", "grouped_mm"))


def peer_config() -> dict[str, Any]:
    """The same model in the words of the peer."""
    d = CONFIG.decoder
    return {
        "vocab_size": CONFIG.vocab_size,
        "hidden_size": d.model_dim,
        "num_hidden_layers": d.num_layers,
        "num_attention_heads": d.attention.num_heads,
        "num_key_value_heads": d.attention.num_kv_heads,
        "head_dim": d.attention.head_dim,
        "linear_conv_kernel_dim": d.gdn.conv_width,
        "linear_key_head_dim": d.gdn.head_key_dim,
        "linear_value_head_dim": d.gdn.head_value_dim,
        "linear_num_key_heads": d.gdn.num_key_heads,
        "linear_num_value_heads": d.gdn.num_value_heads,
        "moe_intermediate_size": d.feed_forward.expert_dim,
        "shared_expert_intermediate_size": d.feed_forward.hidden_dim,
        "num_experts_per_tok": d.feed_forward.top_k,
        "num_experts": d.feed_forward.num_experts,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": CONFIG.tie_embeddings,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": d.attention.rope_theta,
            "partial_rotary_factor": d.attention.rotary_fraction,
            "mrope_section": list(d.attention.mrope_section or ()),
            "mrope_interleaved": True,
        },
    }


def abstract_parameters() -> Any:
    return unbox(jax.eval_shape(lambda: init_language_model(CONFIG, jax.random.key(0))))


def _active(head: bool) -> float:
    """Parameters that a token is multiplied with."""
    f, table = CONFIG.decoder.feed_forward, CONFIG.vocab_size * CONFIG.decoder.model_dim
    total = sum(math.prod(x.shape) for x in jax.tree.leaves(abstract_parameters()))
    experts = CONFIG.decoder.num_layers * f.num_experts * 3 * CONFIG.decoder.model_dim * f.expert_dim
    return total - experts * (1 - f.top_k / f.num_experts) - table * (1 if head else 2)


@functools.cache
def _model() -> tuple[LanguageModelConfig, Any]:
    """Every layer with arrays of its own, as is fastest on a CPU."""
    config = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, stacked=False))
    return config, initialise(lambda: init_language_model(config, jax.random.key(0)))


def _tokens(rows: int, steps: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, CONFIG.vocab_size, (rows, steps), np.int32)


def _prefill(rows: int) -> Callable[[], Any]:
    generator = TextGenerator(*_model(), capacity=STEPS, prefill_chunk=STEPS)
    prompts = _tokens(rows, STEPS).tolist()

    def call() -> Any:
        return jax.block_until_ready(generator.prefill(prompts).logits)

    call()
    return call


def _decode(rows: int, capacity: int) -> Callable[[], Any]:
    config, params = _model()
    read = TextGenerator(config, params, capacity=capacity).prefill(_tokens(rows, CONTEXT).tolist())
    kept = [jnp.argmax(read.logits, -1).astype(jnp.int32), read.cache]

    def call() -> Any:
        for _ in range(DECODED):
            kept[:] = decode_step(config, params, kept[1], kept[0])
        return jax.block_until_ready(kept[0])

    for _ in itertools.repeat(None, 2):
        call()
    return call


def _train() -> Callable[[], Any]:
    config, params = _model()
    training = LanguageModelTrainingConfig()
    batch = {"tokens": jnp.asarray(_tokens(1, STEPS))}

    def loss(params: Any) -> Any:
        return language_model_loss(config, training, params, batch)[0]

    return jitted(jax.value_and_grad(loss), params)
