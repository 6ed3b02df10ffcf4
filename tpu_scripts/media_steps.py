"""The steps that encode long media, with shapes and placements in the place of arrays, and what they must compute.

A call reads one piece: a row is a window of a recording, or a frame (a temporal patch: two frames) of a video. The
media are those that a context of 262,144 tokens is meant for: ten hours of sound, 400 seconds of 720p at a frame a
second.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.vision import ImageConfig, VisionEncoderConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.parallel.rules import parameter_shardings, partition_spec
from qomni_jax.sizes import THINKERS
from qomni_jax.thinker import Media, Thinker
from qomni_jax.vision.resize import smart_resize

MEDIA_STEPS = ("encode_audio", "encode_video")
SECONDS_OF_SOUND = 36_000
FRAMES, HEIGHT, WIDTH = 400, 720, 1280


@dataclasses.dataclass(frozen=True)
class Medium:
    """A long medium as an encoder sees it: `rows` rows of `length` log-mel frames or patches, `tokens` outputs each.

    `grid`: rows and columns of patches of a frame; None for sound.
    """

    name: str
    rows: int
    length: int
    tokens: int
    grid: tuple[int, int] | None = None


def medium(size: str, step: str) -> Medium:
    """What the encoder of a size has to read."""
    config = THINKERS[size]()
    if step == "encode_audio":
        assert config.audio is not None
        frames = AudioFeatureConfig().num_frames(SECONDS_OF_SOUND * AudioFeatureConfig().sample_rate)
        length = config.audio.window_frames or frames
        return Medium("ten hours of sound", -(-frames // length), length, config.audio.num_tokens(length))
    assert config.vision is not None
    vision = config.vision
    image = ImageConfig(vision.patch_size, vision.merge_size, vision.temporal_patch_size)
    height, width = (side // vision.patch_size for side in smart_resize(HEIGHT, WIDTH, image))
    rows = -(-FRAMES // vision.temporal_patch_size)
    patches = height * width
    return Medium("400 frames of 720p", rows, patches, patches // vision.merged_patches, (height, width))


def planned_thinker(size: str, rows: int) -> ThinkerConfig:
    """The Thinker as it runs on TPUs: bfloat16, attention kernels, convolutions on all chunks of a call at once."""
    config = THINKERS[size]()
    audio, vision = config.audio, config.vision
    assert audio is not None
    assert vision is not None
    chunks = medium(size, "encode_audio").length // audio.chunk_frames
    return ThinkerConfig(
        dataclasses.replace(config.language_model, dtype="bfloat16"),
        dataclasses.replace(audio, dtype="bfloat16", conv_batch=rows * chunks, encoder=_with_kernels(audio.encoder)),
        dataclasses.replace(vision, dtype="bfloat16", encoder=_with_kernels(vision.encoder)),
    )


def _with_kernels(blocks: EncoderConfig) -> EncoderConfig:
    return dataclasses.replace(blocks, backend="pallas_tpu")


def media_arguments(config: ThinkerConfig, wanted: Medium, rows: int, mesh: Mesh) -> tuple[Any, Media]:
    """Parameters of the encoder and one piece of `rows` rows, spread over `mesh`."""

    def spread(shape: tuple[int, ...], dtype: Any) -> Any:  # stands in the place of an array
        spec = partition_spec(mesh, ("batch",), shape)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))

    if wanted.grid is None:
        assert config.audio is not None
        sound = spread((rows, wanted.length, config.audio.num_mels), jnp.float32)
        media = Media(features=sound, frames=spread((rows,), jnp.int32))
    else:
        assert config.vision is not None
        patches = spread((rows, wanted.length, config.vision.patch_dim), jnp.float32)
        media = Media(patches, spread((rows, 2), jnp.int32))
    boxed = jax.eval_shape(lambda m: Thinker(config).init(jax.random.key(0), m, method=Thinker.encode), media)["params"]
    params = jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, jnp.bfloat16, sharding=s),
        unbox(boxed),
        parameter_shardings(mesh, boxed),
    )
    return params, media


def encoder_flops(config: ThinkerConfig, wanted: Medium, rows: int) -> float:
    """Operations that the mathematics of `rows` rows needs: two a weight and input, scores and weighted values."""
    if wanted.grid is None:
        assert config.audio is not None
        return 2.0 * rows * _audio_products(config.audio, wanted)
    assert config.vision is not None
    return 2.0 * rows * _vision_products(config.vision, wanted)


def _audio_products(c: AudioEncoderConfig, wanted: Medium) -> float:
    total, times, bins, channels = 0.0, wanted.length, c.num_mels, 1
    for _ in range(c.num_convs):
        times, bins = -(-times // 2), -(-bins // 2)
        total += times * bins * 9 * channels * c.conv_channels
        channels = c.conv_channels
    dim = c.encoder.model_dim
    total += wanted.tokens * bins * channels * dim + _block_products(c.encoder, wanted.tokens)
    return total + wanted.tokens * dim * (c.output_dim + (dim if c.projector == "mlp" else 0))


def _vision_products(c: VisionEncoderConfig, wanted: Medium) -> float:
    total = wanted.length * c.patch_dim * c.encoder.model_dim + _block_products(c.encoder, wanted.length)
    merged = c.merged_patches * c.encoder.model_dim
    return total + (1 + len(c.deepstack_layers)) * wanted.tokens * merged * (merged + c.output_dim)


def _block_products(c: EncoderConfig, length: int) -> float:
    weights = 4 * c.model_dim**2 + 2 * c.model_dim * c.mlp_dim
    return c.num_layers * (weights * length + 2 * length**2 * c.model_dim)
