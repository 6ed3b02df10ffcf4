"""The steps that a plan compiles, with shapes and placements in the place of arrays: nothing is allocated."""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from qomni_jax.codec.waveform_stream import stream_function
from qomni_jax.config.decoder import REMAT_NAMES, DecoderConfig, LanguageModelConfig
from qomni_jax.config.training import LanguageModelTrainingConfig
from qomni_jax.inference.text import Places, Prefilled, decode_step, prefill_chunk
from qomni_jax.layers.language_model import empty_language_model_cache, init_language_model
from qomni_jax.layers.linear import unbox
from qomni_jax.ops import attention, gated_delta_rule, moe
from qomni_jax.parallel.mesh import AXES
from qomni_jax.parallel.rules import mesh_axes, parameter_shardings, partition_spec
from qomni_jax.sizes import LANGUAGE_MODELS, TALKERS, THINKERS
from qomni_jax.thinker import MediaFeatures
from qomni_jax.thinker.stream import encode_piece
from qomni_jax.training.language_model_step import abstract_language_model_state, make_language_model_step
from qomni_jax.training.step import batch_shardings
from tpu_scripts.chips import Slice
from tpu_scripts.media_steps import MEDIA_STEPS, media_arguments, medium, planned_thinker
from tpu_scripts.speech_steps import (
    SPEECH_STEPS,
    codec_arguments,
    planned_codec,
    planned_talker,
    talker_arguments,
    talker_streamer,
)

# Tokens a row in each training stage. The report gives S2 and S3 (32,768 and 262,144) and none for S1, which aligns
# the encoders; 8,192 is where the ancestor starts.
STAGES = {"S1": 8_192, "S2": 32_768, "S3": 262_144}
STEPS = ("train", "prefill", "decode", *MEDIA_STEPS, *SPEECH_STEPS)
FEW_TOKENS = 128  # of a prompt: what is left to read of it when a speaker stops
LANES = 128  # head sizes that kernels are written for are multiples of this


@dataclasses.dataclass(frozen=True)
class Request:
    """What to plan; `mesh`, `batch`, `chunk` and `remat` are None where the defaults of this module stand.

    `passes`: in how many parts a device's tokens go through the experts in training.

    Raises ValueError, in one line with the flag and what is accepted, for anything that does not fit together.
    """

    size: str
    topology: str
    step: str = "train"
    stage: str = "S2"
    context: int | None = None
    batch: int | None = None
    mesh: str | None = None
    chunk: int | None = None
    remat: str | None = None
    passes: int = 1

    def __post_init__(self) -> None:
        for field, accepted in (("size", tuple(LANGUAGE_MODELS)), ("step", STEPS), ("stage", tuple(STAGES))):
            if getattr(self, field) not in accepted:
                raise ValueError(f"--{field}={getattr(self, field)}: accepted is one of {', '.join(accepted)}")
        if self.step in MEDIA_STEPS and self.size not in THINKERS:
            raise ValueError(
                f"--size={self.size} with --step={self.step}: accepted is one of {', '.join(THINKERS)}, the sizes with "
                "encoders"
            )
        if self.step in SPEECH_STEPS and self.size not in TALKERS:
            raise ValueError(
                f"--size={self.size} with --step={self.step}: accepted is one of {', '.join(TALKERS)}, the sizes with "
                "a Talker and a codec"
            )
        for field in ("context", "batch", "chunk", "passes"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"--{field}={value}: accepted is a whole number from 1")
        kept = self.kept
        if unknown := [name for name in kept or () if name not in REMAT_NAMES]:
            raise ValueError(f"--remat={self.remat}: {unknown[0]!r}: accepted is none, or of {', '.join(REMAT_NAMES)}")
        if self.rows % self.row_shards:
            raise ValueError(
                f"--batch={self.rows}: accepted is a multiple of {self.row_shards}, the devices over which the mesh "
                f"{self.mesh_text} spreads rows"
            )

    @property
    def slice(self) -> Slice:
        return Slice.parse(self.topology)

    @property
    def tokens(self) -> int:
        """Tokens a row: of training, of the prompt, in the cache, or that the encoder gives."""
        if self.step in MEDIA_STEPS:
            return medium(self.size, self.step).tokens
        if self.step == "codec_frame":
            return 1
        return STAGES[self.stage] if self.context is None else self.context

    @property
    def kept(self) -> tuple[str, ...] | None:
        """Tensors of a layer that are kept for the backward pass."""
        if self.remat is None:
            return ("attention_out", "gdn_out")
        return tuple(name for name in self.remat.split(",") if name != "none")

    @property
    def mesh_sizes(self) -> dict[str, int]:
        if self.mesh is None:
            spread = TALKERS[self.size]() if self.step in SPEECH_STEPS else LANGUAGE_MODELS[self.size]()
            return default_mesh(spread.decoder, self.slice, self.step, stays=self.weights_stay)
        return _parse_mesh(self.mesh, self.slice)

    @property
    def mesh_text(self) -> str:
        return ",".join(f"{axis}={size}" for axis, size in self.mesh_sizes.items() if size > 1) or "data=1"

    @property
    def row_shards(self) -> int:
        return math.prod(self.mesh_sizes.get(axis, 1) for axis in mesh_axes("batch"))

    @property
    def rows(self) -> int:
        """Rows in a step over the whole slice: one for each device that has rows of its own, unless asked otherwise."""
        return self.row_shards if self.batch is None else self.batch

    @property
    def pass_tokens(self) -> int:
        """Tokens that a device takes through the experts at a time; 0 for all of them."""
        return self.rows // self.row_shards * self.tokens // self.passes if self.passes > 1 else 0

    @property
    def prompt_chunk(self) -> int:
        """Prompt tokens that one prefill call reads."""
        return min(self.tokens, 2_048 if self.chunk is None else self.chunk)

    @property
    def weights_stay(self) -> bool:
        """Whether tokens travel to the weights: where a call has so few that moving weights would take longer."""
        few = self.step == "prefill" and self.prompt_chunk <= FEW_TOKENS
        return few or self.step in ("decode", "talker_frame")

    @property
    def calls(self) -> int:
        """Calls of the step that read the whole prompt or medium; 1 for a step that is whole by itself."""
        if self.step in MEDIA_STEPS:
            return -(-medium(self.size, self.step).rows // self.rows)
        return -(-self.tokens // self.prompt_chunk) if self.step == "prefill" else 1


def default_mesh(decoder: DecoderConfig, piece: Slice, step: str, *, stays: bool) -> dict[str, int]:
    """The mesh for a slice; `stays` as `Request.weights_stay`.

    Training and prefill: `fsdp` takes the whole slice while the gathered weights of one layer stay under a tenth of a
    chip's memory; beyond that `expert` takes the smallest dimension of the torus that divides the experts. Where
    weights must not move, as in decoding, `expert` takes whole dimensions as long as they divide the experts, and what
    is left over replicates (`data`). Encoders and codecs are small enough to be on every chip.
    """
    if step in MEDIA_STEPS or step == "codec_frame":
        return {"data": piece.chips}
    ff = decoder.feed_forward
    if not stays:
        layer = 2 * 3 * decoder.model_dim * max(ff.num_experts * ff.expert_dim, ff.hidden_dim)
        fitting = [d for d in sorted(piece.dims) if d > 1 and ff.num_experts and ff.num_experts % d == 0]
        expert = fitting[0] if layer > 0.1 * piece.chip.hbm_bytes and fitting else 1
        return {"fsdp": piece.chips // expert, "expert": expert}
    expert = 1
    for dim in sorted(piece.dims, reverse=True):
        if ff.num_experts and ff.num_experts % (expert * dim) == 0:
            expert *= dim
    return {"data": piece.chips // expert, "expert": expert}


def _parse_mesh(text: str, piece: Slice) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if axis not in AXES or axis in sizes or not size.isdigit() or int(size) < 1:
            raise ValueError(f"--mesh={text}: accepted are sizes of {', '.join(AXES)}, such as fsdp=16,expert=4")
        sizes[axis] = int(size)
    if math.prod(sizes.values()) != piece.chips:
        raise ValueError(f"--mesh={text}: accepted are sizes whose product is {piece.chips}, the chips of {piece.name}")
    return sizes


def planned_config(request: Request) -> LanguageModelConfig:
    """The model of a size as it runs on TPUs: bfloat16 activations, rematerialised layers, kernels where there are.

    Where weights stay, a step reads each of them once and writes a few slots of a cache: layers have arrays of their
    own, since a loop over stacked ones would copy them.
    """
    config = LANGUAGE_MODELS[request.size]()
    d = config.decoder
    training = request.step == "train"
    wide = d.gdn.head_key_dim % LANES == 0 and d.gdn.head_value_dim % LANES == 0
    gdn = "pallas_tpu" if wide and "pallas_tpu" in gated_delta_rule.BACKENDS else "xla"
    experts = "pallas_tpu" if d.feed_forward.expert_dim % LANES == 0 and "pallas_tpu" in moe.BACKENDS else "blocked"
    attending = "pallas_tpu" if "pallas_tpu" in attention.BACKENDS and training else "auto"
    attending = "reference" if request.weights_stay else attending  # few queries, and a cache that is full
    return dataclasses.replace(
        config,
        dtype="bfloat16",
        num_mtp_layers=config.num_mtp_layers if training else 0,
        decoder=dataclasses.replace(
            d,
            remat=request.kept if training else None,
            stacked=not request.weights_stay,
            gdn=dataclasses.replace(d.gdn, backend="auto" if request.step == "decode" else gdn),
            attention=dataclasses.replace(d.attention, backend=attending),
            feed_forward=dataclasses.replace(
                d.feed_forward,
                backend=experts,
                dispatch="ring" if request.weights_stay else "local",
                pass_tokens=request.pass_tokens,
            ),
        ),
    )


@dataclasses.dataclass(frozen=True)
class Program:
    """A step and the abstract arguments of one call; `parts` names groups of arguments for the account of memory."""

    step: Callable[..., Any]
    args: tuple[Any, ...]
    parts: dict[str, Any]


def program(request: Request, config: LanguageModelConfig, mesh: Mesh) -> Program:
    """The step that a request asks for, over `mesh`."""
    if request.step == "train":
        return _train(request, config, mesh)
    if request.step in MEDIA_STEPS:
        thinker = planned_thinker(request.size, request.rows)
        encoder, piece = media_arguments(thinker, medium(request.size, request.step), request.rows, mesh)
        parts = {"params": encoder, "batch": piece}
        return Program(lambda *args: encode_piece.lower(thinker, *args), (encoder, piece), parts)
    if request.step in SPEECH_STEPS:
        return _speak(request, mesh)
    params = _inference_params(config, mesh)
    cache = _cache(request, config, mesh)
    rows = NamedSharding(mesh, partition_spec(mesh, ("batch",), (request.rows,)))

    def per_row(shape: tuple[int, ...], dtype: Any) -> Any:  # stands in the place of an array
        return jax.ShapeDtypeStruct((request.rows, *shape), dtype, sharding=rows)

    parts = {"params": params, "cache": cache}
    if request.step == "decode":
        return Program(lambda *args: decode_step.lower(config, *args), (params, cache, per_row((), jnp.int32)), parts)
    state = Prefilled(
        cache,
        per_row((config.vocab_size,), jnp.float32),
        per_row((config.decoder.model_dim,), config.dtype),
    )
    chunk = per_row((request.prompt_chunk,), jnp.int32)
    places = Places()
    if request.size in THINKERS:
        places = _places(request, config, mesh)
        parts["features"] = places.features
    args = (params, state, chunk, per_row((), jnp.int32), places)
    return Program(lambda *args: prefill_chunk.lower(config, *args), args, parts)


def _speak(request: Request, mesh: Mesh) -> Program:
    if request.step == "codec_frame":
        codec = planned_codec(request.size)
        params, state, codes = codec_arguments(codec, request.rows, mesh)
        parts = {"params": params, "state": state}
        return Program(stream_function(codec, "decode").lower, (params, state, codes), parts)
    talker = planned_talker(request.size)
    params, carry, text = talker_arguments(talker, request.rows, request.tokens, mesh)
    parts = {"params": params, "cache": carry.cache}
    return Program(talker_streamer(talker).step.lower, (params, carry, *text), parts)


def _places(request: Request, config: LanguageModelConfig, mesh: Mesh) -> Places:
    """A chunk's positions and slots, and as many features as a row has tokens, on every chip: all ask about them."""
    shape, dim = (request.rows, request.prompt_chunk), config.decoder.model_dim
    rows = partition_spec(mesh, ("batch",), shape)

    def placed(shape: tuple[int, ...], dtype: Any, *spec: Any) -> Any:  # stands in the place of an array
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec)))

    features = MediaFeatures(placed((request.tokens, dim), config.dtype), placed((0, 0, dim), config.dtype))
    return Places(placed((3, *shape), jnp.int32, None, *rows), placed(shape, jnp.int32, *rows), features)


def _train(request: Request, config: LanguageModelConfig, mesh: Mesh) -> Program:
    training = LanguageModelTrainingConfig(batch_size=request.rows, sequence_length=request.tokens)
    state = abstract_language_model_state(config, training, mesh)
    batch: Any = {
        name: jax.ShapeDtypeStruct((request.rows, request.tokens), jnp.int32) for name in ("tokens", "segment_ids")
    }
    batch = jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), batch, batch_shardings(mesh, batch)
    )
    parts = {"params": state.params, "optimizer": state.opt_state, "batch": batch}
    return Program(make_language_model_step(config, training).lower, (state, batch), parts)


def _inference_params(config: LanguageModelConfig, mesh: Mesh) -> Any:
    """Parameters in the activations' type, without the multi-token-prediction head's moments or gradients."""
    boxed = jax.eval_shape(lambda: init_language_model(config, jax.random.key(0)))
    return jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, config.dtype, sharding=s),
        unbox(boxed),
        parameter_shardings(mesh, boxed),
    )


def _cache(request: Request, config: LanguageModelConfig, mesh: Mesh) -> Any:
    """The cache, spread by rows and heads."""
    cache = jax.eval_shape(lambda: empty_language_model_cache(config, request.rows, request.tokens))

    def place(leaf: Any) -> Any:
        stack = (None, None) if config.decoder.stacked else ()
        names: tuple[str | None, ...] = ("batch",) if leaf.ndim == 1 else (*stack, "batch", "kv_heads")
        spec = partition_spec(mesh, names[: leaf.ndim], leaf.shape) if leaf.ndim else PartitionSpec()
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(place, cache)


def bytes_a_chip(tree: Any) -> int:
    """Bytes of a tree's arrays that one device holds."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * jnp.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
    )
