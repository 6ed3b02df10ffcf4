"""Which released tensor holds which part of an encoder's parameters (`key_map` has the language model's)."""

from collections.abc import Iterable

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.interop.key_map import Part, Rule, matrix, rows, scoped
from qomni_jax.storage.errors import CheckpointError

_BLOCKS = "encoder/blocks/"
# A tensor of the encoder by whose name its prefix is found in a checkpoint of a whole model.
AUDIO_ANCHOR, VISION_ANCHOR = "conv_out.weight", "patch_embed.proj.weight"
# Names inside a merger: norm, first and second linear map.
_MERGER_NAMES = {"qwen3_omni_moe_vision_encoder": ("ln_q", "mlp.0", "mlp.2")}
_MERGER_DEFAULT = ("norm", "linear_fc1", "linear_fc2")


def find_prefix(names: Iterable[str], anchor: str, source: str) -> str:
    """What stands before the names of the encoder's tensors; raises CheckpointError where it is not there once."""
    found = [name for name in names if name == anchor or name.endswith("." + anchor)]
    if len(found) != 1:
        raise CheckpointError(f"{source}: {len(found)} tensors *{anchor}: accepted is one, of the encoder to read")
    return found[0].removesuffix(anchor)


def audio_key_map(config: AudioEncoderConfig, prefix: str = "") -> dict[str, Rule]:
    """Released name -> rule, for every tensor of an audio encoder with `projector = "mlp"`."""
    c, dim = config, config.encoder.model_dim
    bins = -(-c.num_mels // c.frames_per_token)
    rules = []
    for number in range(1, c.num_convs + 1):
        theirs, ours = f"conv2d{number}", f"chunks/conv{number}/"
        channels = c.conv_channels if number > 1 else 1
        rules += [
            matrix(theirs + ".weight", ours + "kernel", c.conv_channels, channels, 3, 3),
            rows(theirs + ".bias", ours + "bias", c.conv_channels),
        ]
    rules.append(matrix("conv_out.weight", "chunks/conv_out/kernel", dim, c.conv_channels * bins))
    block = [
        *_norm("self_attn_layer_norm", "norm1", dim),
        *_norm("final_layer_norm", "norm2", dim),
        *(
            rule
            for name in ("q_proj", "k_proj", "v_proj", "out_proj")
            for rule in _linear(f"self_attn.{name}", f"attn/{name}", dim, dim)
        ),
        *_linear("fc1", "mlp/fc1", c.encoder.mlp_dim, dim),
        *_linear("fc2", "mlp/fc2", dim, c.encoder.mlp_dim),
    ]
    rules += _every_layer(block, "layers", c.encoder)
    rules += _norm("ln_post", "ln_post", dim)
    rules += [*_linear("proj1", "projector/fc1", dim, dim), *_linear("proj2", "projector/fc2", c.output_dim, dim)]
    return {prefix + rule.name: scoped(rule, prefix, "") for rule in rules}


def vision_key_map(config: VisionEncoderConfig, model_type: str, prefix: str = "") -> dict[str, Rule]:
    """Released name -> rule, for every tensor of a vision encoder."""
    c, dim = config, config.encoder.model_dim
    patch = (c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size)
    fused = tuple(f"attn/{name}/" for name in ("q_proj", "k_proj", "v_proj"))
    block = [
        *_norm("norm1", "norm1", dim),
        *_norm("norm2", "norm2", dim),
        # One linear map in the checkpoint: all queries, all keys, all values.
        Rule("attn.qkv.weight", 1, tuple(Part(name + "kernel", dim) for name in fused), (dim,)),
        Rule("attn.qkv.bias", 1, tuple(Part(name + "bias", dim) for name in fused), kind="rows"),
        *_linear("attn.proj", "attn/out_proj", dim, dim),
        *_linear("mlp.linear_fc1", "mlp/fc1", c.encoder.mlp_dim, dim),
        *_linear("mlp.linear_fc2", "mlp/fc2", dim, c.encoder.mlp_dim),
    ]
    names = _MERGER_NAMES.get(model_type, _MERGER_DEFAULT)
    rules = [
        matrix(VISION_ANCHOR, "patch_embed/kernel", dim, *patch),
        rows("patch_embed.proj.bias", "patch_embed/bias", dim),
        rows("pos_embed.weight", "pos_embed", c.position_side**2, dim),
        *_every_layer(block, "blocks", c.encoder),
        *_merger(c, names, "merger.", "merger/", dim),
    ]
    for index in range(len(c.deepstack_layers)):
        rules += _merger(c, names, f"merger_list.{index}.", f"deepstack_{index}/", dim * c.merged_patches)
    return {prefix + rule.name: scoped(rule, prefix, "") for rule in rules}


def _merger(c: VisionEncoderConfig, names: tuple[str, ...], theirs: str, ours: str, norm_dim: int) -> list[Rule]:
    norm, first, second = names
    merged = c.encoder.model_dim * c.merged_patches
    rules = [
        *_norm(norm, "norm", norm_dim),
        *_linear(first, "mlp/fc1", merged, merged),
        *_linear(second, "mlp/fc2", c.output_dim, merged),
    ]
    return [scoped(rule, theirs, ours) for rule in rules]


def _every_layer(block: list[Rule], name: str, config: EncoderConfig) -> list[Rule]:
    return [scoped(rule, f"{name}.{layer}.", _BLOCKS, (layer,)) for layer in range(config.num_layers) for rule in block]


def _linear(theirs: str, ours: str, out: int, inner: int) -> list[Rule]:
    return [matrix(theirs + ".weight", ours + "/kernel", out, inner), rows(theirs + ".bias", ours + "/bias", out)]


def _norm(theirs: str, ours: str, dim: int) -> list[Rule]:
    return [rows(theirs + ".weight", ours + "/scale", dim), rows(theirs + ".bias", ours + "/bias", dim)]
