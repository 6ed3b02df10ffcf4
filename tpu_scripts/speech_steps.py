"""The steps that speak, with shapes and placements in the place of arrays, and what they must compute.

`talker_frame` is one step of the Talker's stream with everything that it may have to do: the first head's decision, the
residual codebooks of a frame, and the backbone's step. `codec_frame` makes 80 ms of sound of a frame of codes.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qomni_jax.codec.waveform_model import init_parameters, initial_state
from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.config.waveform_codec import WaveformCodecConfig
from qomni_jax.inference.talker_stream import StreamCarry, TalkerStreamer
from qomni_jax.layers.decoder import Cache, empty_cache
from qomni_jax.layers.linear import unbox
from qomni_jax.parallel.rules import parameter_shardings, partition_spec
from qomni_jax.sizes import TALKERS
from qomni_jax.sizes.codecs import CODECS
from qomni_jax.talker.interleaver import StreamState
from qomni_jax.talker.talker import init_talker
from tpu_scripts.bounds import model_flops

SPEECH_STEPS = ("talker_frame", "codec_frame")
TEXT_TOKENS = 512  # of an answer, ready for the Talker to take
SAMPLING = SamplingConfig(temperature=0.9, top_k=50)  # the released Talkers'


def talker_streamer(config: TalkerConfig) -> TalkerStreamer:
    """The program of a Talker that speaks as ARIA has it."""
    return TalkerStreamer(config, InterleaverConfig(), SAMPLING, end_of_text=0)


def planned_talker(size: str, *, dispatch: str = "ring") -> TalkerConfig:
    """The Talker as it runs on TPUs: bfloat16, layers with arrays of their own (as in decoding), weights that stay."""
    config = TALKERS[size]()
    experts = dataclasses.replace(config.decoder.feed_forward, backend="pallas_tpu", dispatch=dispatch)
    attention = dataclasses.replace(config.decoder.attention, backend="reference")
    decoder = dataclasses.replace(config.decoder, stacked=False, feed_forward=experts, attention=attention)
    residual = dataclasses.replace(config.residual, stacked=False)
    return dataclasses.replace(config, dtype="bfloat16", decoder=decoder, residual=residual)


def talker_arguments(config: TalkerConfig, rows: int, context: int, mesh: Mesh) -> tuple[Any, StreamCarry, Any]:
    """Parameters, the state of `rows` streams whose cache holds `context` steps, and the text that they may take."""
    params = _placed_parameters(mesh, jax.eval_shape(lambda: init_talker(config, jax.random.key(0))))

    def spread(shape: tuple[int, ...], dtype: Any, *names: str | None) -> Any:  # stands in the place of an array
        spec = partition_spec(mesh, names or ("batch",), shape) if shape else PartitionSpec()
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    def cached(leaf: Any) -> Any:
        return spread(leaf.shape, leaf.dtype, *("batch", "kv_heads")[: leaf.ndim])

    cache: Cache = jax.tree.map(
        cached, jax.eval_shape(lambda: empty_cache(config.decoder, rows, context, jnp.dtype(config.dtype)))
    )
    count, flag = spread((rows,), jnp.int32), spread((rows,), bool)
    state = StreamState(
        count, count, count, count, flag, spread((rows,), jnp.float32), spread((rows, TEXT_TOKENS), jnp.float32)
    )
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    carry = StreamCarry(
        cache=cache,
        position=count,
        state=state,
        logits=spread((rows, config.codebook_size + 2), jnp.float32),
        hidden=spread((rows, config.decoder.model_dim), config.dtype),
        done=flag,
        limit=count,
        keys=spread(keys.shape, keys.dtype),
    )
    whole = PartitionSpec()
    durations = jax.ShapeDtypeStruct((config.text_vocab_size,), jnp.float32, sharding=NamedSharding(mesh, whole))
    return params, carry, (spread((rows, TEXT_TOKENS), jnp.int32), count, durations)


def planned_codec(size: str) -> WaveformCodecConfig:
    """The codec as it runs on TPUs: bfloat16."""
    return dataclasses.replace(CODECS[size](), dtype="bfloat16")


def codec_arguments(config: WaveformCodecConfig, rows: int, mesh: Mesh) -> tuple[Any, Any, Any]:
    """Parameters on every chip, the state of `rows` streams, and a frame of codes for each."""
    whole = NamedSharding(mesh, PartitionSpec())
    shapes = jax.eval_shape(lambda: init_parameters(config, jax.random.key(0)))
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16, sharding=whole), shapes)

    def spread(leaf: Any, batch_axis: int) -> Any:
        names = (None,) * batch_axis + ("batch",)
        sharding = NamedSharding(mesh, partition_spec(mesh, names, leaf.shape))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    one, two = (jax.eval_shape(lambda n=n: initial_state(config, "decode", n)) for n in (1, 2))
    axes = jax.tree.map(lambda a, b: [x == y for x, y in zip(a.shape, b.shape, strict=True)].index(False), one, two)
    state = jax.tree.map(spread, jax.eval_shape(lambda: initial_state(config, "decode", rows)), axes)
    codes = jax.ShapeDtypeStruct((rows, 1, config.quantizer.num_codebooks), jnp.int32)
    return params, state, spread(codes, 0)


def talker_flops(config: TalkerConfig, rows: int, context: int) -> float:
    """Operations that the mathematics of a step needs: the backbone's, and of the residual decoder's for a frame."""
    backbone = LanguageModelConfig(config.codebook_size + 2, config.decoder)
    residual = LanguageModelConfig(config.codebook_size, config.residual)
    books = config.num_codebooks
    unused_head = 2.0 * rows * config.decoder.model_dim * config.codebook_size
    inner = model_flops(residual, tokens=rows * books, context=(books + 1) / 2, training=False) - unused_head
    return model_flops(backbone, tokens=rows, context=context, training=False) + inner


def _placed_parameters(mesh: Mesh, boxed: Any) -> Any:
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16, sharding=s),
        unbox(boxed),
        parameter_shardings(mesh, boxed),
    )
