"""Goldens of a Thinker: one prompt with media, as the released processor lays it out.

input_ids, pixel_values, pixel_values_videos, *_grid_thw, input_features, feature_attention_mask   one row
position_ids, rope_deltas   time, height, width of each token; the next position less the length
logits, aux_loss            of the row
hidden_<n>                  embeddings with features in their places (0), the output of layer n - 1 before DeepStack,
                            and last after the final norm
greedy                      the row and its likeliest continuation
aiv_*                       ids and positions of a video with its sound
"""

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.text import TextGenerator
from qomni_jax.interop.released_prompt import read_prompt
from qomni_jax.interop.thinker_model import OpenedThinker
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.interop.verify.language_model import aux_loss, precise
from qomni_jax.layers.decoder import layer_intermediates
from qomni_jax.layers.language_model import LanguageModel
from qomni_jax.sequence.assembly import OmniSequence
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, MediaSize, VideoSize
from qomni_jax.sequence.positions import rope_delta
from qomni_jax.sequence.timestamps import regular_patch_times
from qomni_jax.thinker import Example, Thinker, place_features, place_media

_MEDIA = {"pixel_values", "pixel_values_videos", "input_features"}
_INPUTS = {
    *_MEDIA,
    "input_ids",
    "attention_mask",
    "mm_token_type_ids",
    "feature_attention_mask",
    "image_grid_thw",
    "video_grid_thw",
    "video_second_per_grid",
    "aiv_input_ids",
}


def matches(names: set[str]) -> bool:
    """A file with tokens and media."""
    return "input_ids" in names and bool(names & _MEDIA)


def inputs(names: set[str]) -> set[str]:
    """Tokens and what the encoders read."""
    return names & _INPUTS


def compute(
    golden: Golden, model: OpenedThinker, parameters: Any, *, exact: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood; `exact` as in `language_model.precise`."""
    config = precise_thinker(model.stored.config, exact=exact)
    model = model._replace(stored=model.stored._replace(config=config))
    example = Example(read_sequence(golden, model, "input_ids"), *read_media(golden, model))
    media, (slots,) = place_media([example], config)
    tokens, positions = example.sequence.tokens[None], example.sequence.positions[:, None]
    thinker = Thinker(config)

    @jax.jit
    def run(parameters: Any) -> Any:
        variables = {"params": parameters}
        features = thinker.apply(variables, media, method=Thinker.encode)
        output, sowed = thinker.apply(
            variables,
            tokens,
            positions,
            slots=slots[None],
            media=features,
            mutable=["intermediates"],
        )
        embeddings = LanguageModel(config.language_model).apply(
            {"params": parameters["language_model"]}, tokens, method=LanguageModel.embed
        )
        return output, sowed, features, place_features(embeddings, slots[None], features)[0]

    output, sowed, features, embeddings = run(parameters)
    decoder = sowed["intermediates"]["language_model"]["decoder"]
    layers = layer_intermediates(config.language_model.decoder, decoder)
    found: dict[str, Any] = {"logits": output.logits, "hidden_0": embeddings}
    found |= {f"hidden_{number}": layer["hidden"] for number, layer in enumerate(layers, 1)}
    found |= {f"hidden_{len(layers)}": output.hidden, "position_ids": positions}
    found["rope_deltas"] = np.array([[rope_delta(example.sequence.positions)]])
    found["aux_loss"] = aux_loss(output.router).reshape(1)
    if "greedy" in golden:
        found["greedy"] = _greedy(golden["greedy"].shape[1], model, parameters, example.sequence, slots, features)
    if "aiv_input_ids" in golden:
        merged = read_sequence(golden, model, "aiv_input_ids")
        found["aiv_position_ids"] = merged.positions[:, None]
        found["aiv_rope_deltas"] = np.array([[rope_delta(merged.positions)]])
    for name in golden:
        if name in found and not re.fullmatch("|".join(_INPUTS), name):
            yield name, np.asarray(found[name])


def precise_thinker(config: ThinkerConfig, *, exact: bool) -> ThinkerConfig:
    dtype = "float64" if exact else "float32"
    audio, vision = config.audio, config.vision
    return ThinkerConfig(
        precise(config.language_model, exact=exact),
        None if audio is None else dataclasses.replace(audio, dtype=dtype),
        None if vision is None else dataclasses.replace(vision, dtype=dtype),
    )


def read_media(golden: Golden, model: OpenedThinker) -> tuple[list[Any], list[Any], list[np.ndarray]]:
    """Images, videos and recordings as `thinker.Example` holds them."""

    def visual(values: str, grids: str) -> list[Any]:
        if values not in golden:
            return []
        shapes = [tuple(int(side) for side in grid) for grid in golden[grids]]
        parts = np.split(golden[values], np.cumsum([np.prod(shape) for shape in shapes])[:-1])
        return list(zip(parts, shapes, strict=True))

    recordings = []
    if "input_features" in golden and model.stored.config.audio is not None:
        lengths = golden["feature_attention_mask"].sum(-1)
        recordings = [clip[:, :length].T for clip, length in zip(golden["input_features"], lengths, strict=True)]
    return (
        visual("pixel_values", "image_grid_thw"),
        visual("pixel_values_videos", "video_grid_thw"),
        recordings,
    )


def read_sequence(golden: Golden, model: OpenedThinker, name: str) -> OmniSequence:
    images, videos, recordings = read_media(golden, model)
    audio = model.stored.config.audio
    heard = [audio.num_tokens(len(clip)) for clip in recordings] if audio is not None else []
    seconds = golden["video_second_per_grid"] if "video_second_per_grid" in golden else np.zeros(len(videos))
    merged = name.startswith("aiv_")
    sounds = heard if merged else [None] * len(videos)
    sizes: dict[Kind, list[MediaSize]] = {
        Kind.IMAGE: [] if merged else [ImageSize(grid) for _, grid in images],
        Kind.AUDIO: [] if merged else [AudioSize(tokens) for tokens in heard],
        Kind.VIDEO: [
            VideoSize(grid, tuple(regular_patch_times(grid[0], float(step)).tolist()), sound)
            for (_, grid), step, sound in zip(videos, seconds, sounds, strict=True)
        ],
    }
    return read_prompt(golden[name][0], model.pads, {kind: sizes[kind] for kind in model.pads}, model.stored.sequence)


def _greedy(
    length: int, model: OpenedThinker, parameters: Any, sequence: OmniSequence, slots: np.ndarray, features: Any
) -> np.ndarray:
    generator = TextGenerator(model.stored.config.language_model, parameters["language_model"], capacity=length)
    prompt = Prompt(sequence.tokens, sequence.positions, slots)
    features = jax.tree.map(jnp.asarray, features)
    said = generator.generate([prompt], length - len(sequence.tokens), features=features)
    return np.concatenate([sequence.tokens, np.asarray(said[0], np.int32)])[None]
