"""Which released tensor holds which part of a codec's parameters."""

from collections.abc import Sequence
import re
from typing import NamedTuple

from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    ConvStackConfig,
    SplitRVQConfig,
    WaveformCodecConfig,
    WindowTransformerConfig,
)
from qomni_jax.interop.codec_families import CODE2WAV, MIMI, TTS_12HZ
from qomni_jax.interop.key_map import Part, Rule, matrix, rows, scoped

# A tensor of the codec by whose name its prefix is found in a checkpoint of a whole model.
ANCHORS = {
    CODE2WAV: "code_embedding.weight",
    TTS_12HZ: "pre_conv.conv.weight",
    MIMI: "encoder_transformer.layers.0.input_layernorm.weight",
}
# Flags of the training of Mimi's codebooks: they say nothing about what it computes, and go back as they came. Ours
# stand beside the parameters of the model, in a tree of their own.
FLAG = re.compile(r".*\._?codebook\.initialized")
FLAGS = "flags"


class _QuantizerNames(NamedTuple):
    """Of the two quantisers, and, inside one, of a level and of the sums of its entries."""

    groups: tuple[str, str]
    level: str
    sums: str


_QUANTIZERS = {
    TTS_12HZ: _QuantizerNames(("rvq_first.", "rvq_rest."), "vq.layers.{}._codebook.", "embedding_sum"),
    MIMI: _QuantizerNames(
        ("semantic_residual_vector_quantizer.", "acoustic_residual_vector_quantizer."),
        "layers.{}.codebook.",
        "embed_sum",
    ),
}


def codec_key_map(
    config: WaveformCodecConfig, family: str, prefix: str = "", *, flags: bool = False
) -> dict[str, Rule]:
    """Released name -> rule, for every tensor of a codec of the family; `flags`: and for the flags of its codebooks."""
    decoder, quantizer = config.decoder, config.quantizer
    width = decoder.transformer.width
    if isinstance(quantizer, CodeEmbeddingConfig):
        length = quantizer.num_codebooks * quantizer.codebook_size
        rules = [rows("code_embedding.weight", "quantizer/table", length, quantizer.model_dim)]
    else:
        rules = _split_rvq(quantizer, _QUANTIZERS[family], flags)
    if decoder.pre_conv:
        rules += _conv("pre_conv", "decoder/pre_conv", quantizer.model_dim, width, decoder.pre_conv)
    for index, ratio in enumerate(decoder.upsampling_ratios):
        rules += _transposed(f"upsample.{index}.0", f"decoder/upsample_{index}", width, width, ratio)
        rules += _conv_next(f"upsample.{index}.1.", f"decoder/conv_next_{index}/", width)
    if family == MIMI:
        rules += _mimi(config, width)
    else:
        rules += _transformer("pre_transformer.", "decoder/transformer/", decoder.transformer)
        rules += _qwen_stack(decoder.stack, width)
    return {prefix + rule.name: scoped(rule, prefix, "") for rule in rules}


def _split_rvq(c: SplitRVQConfig, names: _QuantizerNames, flags: bool) -> list[Rule]:
    rules = []
    groups = (("semantic", c.num_semantic), ("acoustic", c.num_codebooks - c.num_semantic))
    for theirs, (ours, levels) in zip(names.groups, groups, strict=True):
        group = [
            matrix("input_proj.weight", "input_proj/kernel", c.codebook_dim, c.model_dim, 1),
            matrix("output_proj.weight", "output_proj/kernel", c.model_dim, c.codebook_dim, 1),
        ]
        for level in range(levels):
            codebook = [
                rows(names.sums, "embedding_sum", c.codebook_size, c.codebook_dim),
                rows("cluster_usage", "cluster_usage", c.codebook_size),
            ]
            group += [scoped(rule, names.level.format(level), "", (level,)) for rule in codebook]
            if flags:
                flag = rows(names.level.format(level) + "initialized", f"{FLAGS}/{ours}", 1)
                rules.append(scoped(flag, f"quantizer.{theirs}", "", (level,)))
        rules += [scoped(rule, f"quantizer.{theirs}", f"quantizer/{ours}/") for rule in group]
    return rules


def _transformer(theirs: str, ours: str, c: WindowTransformerConfig) -> list[Rule]:
    dim, heads, kv_heads = c.model_dim, c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    layer = [
        *_norm("input_layernorm", "input_norm", c, dim),
        *_norm("post_attention_layernorm", "post_norm", c, dim),
        matrix("self_attn.q_proj.weight", "attn/q_proj/kernel", heads, dim),
        matrix("self_attn.k_proj.weight", "attn/k_proj/kernel", kv_heads, dim),
        matrix("self_attn.v_proj.weight", "attn/v_proj/kernel", kv_heads, dim),
        matrix("self_attn.o_proj.weight", "attn/o_proj/kernel", dim, heads),
        rows("self_attn_layer_scale.scale", "attn_scale", dim),
        rows("mlp_layer_scale.scale", "mlp_scale", dim),
    ]
    names = ("gate_proj", "up_proj", "down_proj") if c.mlp == "swiglu" else ("fc1", "fc2")
    for name in names:
        shape = (dim, c.mlp_dim) if name == names[-1] else (c.mlp_dim, dim)
        layer.append(matrix(f"mlp.{name}.weight", f"mlp/{name}/kernel", *shape))
    rules = [
        scoped(rule, f"layers.{number}.", "blocks/", (number,)) for number in range(c.num_layers) for rule in layer
    ]
    if c.final_norm:
        rules += _norm("norm", "norm", c, dim)
    if c.outer_dim is not None:
        rules += _linear("input_proj", "input_proj", dim, c.outer_dim)
        rules += _linear("output_proj", "output_proj", c.outer_dim, dim)
    return [scoped(rule, theirs, ours) for rule in rules]


def _qwen_stack(c: ConvStackConfig, inner: int) -> list[Rule]:
    width, count = c.frame_channels, len(c.rates)
    rules = _conv("decoder.0", "decoder/stack/first", inner, width, c.kernel_size)
    for index, rate in enumerate(c.rates):
        block = f"decoder.{index + 1}.block."
        rules += _snake(block + "0", f"decoder/stack/act_{index}", width)
        rules += _transposed(block + "1", f"decoder/stack/resample_{index}", width, width // 2, 2 * rate)
        width //= 2
        for number in range(len(c.dilations)):
            theirs, ours = f"{block}{number + 2}.", f"decoder/stack/unit_{index}_{number}/"
            rules += _snake(theirs + "act1", ours + "act1", width)
            rules += _snake(theirs + "act2", ours + "act2", width)
            rules += _unit(c, width, (theirs + "conv1", theirs + "conv2"), ours)
    rules += _snake(f"decoder.{count + 1}", "decoder/stack/act", width)
    return rules + _conv(f"decoder.{count + 2}", "decoder/stack/last", width, 1, c.last_kernel_size)


def _mimi(config: WaveformCodecConfig, width: int) -> list[Rule]:
    decoder, encoder, ratio = config.decoder, config.encoder, config.decoder.pre_upsampling
    rules = [
        matrix("upsample.conv.weight", "decoder/pre_upsample/kernel", width, 1, 2 * ratio),
        *_transformer("decoder_transformer.", "decoder/transformer/", decoder.transformer),
        *_elu_stack("decoder.layers.", "decoder/stack/", decoder.stack, width, decodes=True),
    ]
    if encoder is not None:
        kernel = 2 * encoder.downsampling
        rules += [
            Rule("downsample.conv.weight", width, (Part("encoder/downsample/kernel"),), (width, kernel), "taps"),
            *_transformer("encoder_transformer.", "encoder/transformer/", encoder.transformer),
            *_elu_stack("encoder.layers.", "encoder/stack/", encoder.stack, width, decodes=False),
        ]
    return rules


def _elu_stack(theirs: str, ours: str, c: ConvStackConfig, outer: int, *, decodes: bool) -> list[Rule]:
    """A list of modules in which activations have numbers and no parameters."""
    width = c.frame_channels if decodes else c.channels
    rules = _conv("0", "first", *((outer, width) if decodes else (1, width)), c.kernel_size)
    at = 1

    def units(index: int) -> list[Rule]:
        found: list[Rule] = []
        for number in range(len(c.dilations)):
            names = (f"{at + number}.block.1", f"{at + number}.block.3")
            found += _unit(c, width, names, f"unit_{index}_{number}/")
        return found

    for index, rate in enumerate(c.rates if decodes else reversed(c.rates)):
        if decodes:
            rules += _transposed(str(at + 1), f"resample_{index}", width, width // 2, 2 * rate)
            width, at = width // 2, at + 2
            rules += units(index)
            at += len(c.dilations)
        else:
            rules += units(index)
            at += len(c.dilations) + 1
            rules += _conv(str(at), f"resample_{index}", width, 2 * width, 2 * rate)
            width, at = 2 * width, at + 1
    rules += _conv(str(at + 1), "last", width, 1 if decodes else outer, c.last_kernel_size)
    return [scoped(rule, theirs, ours) for rule in rules]


def _unit(c: ConvStackConfig, width: int, names: Sequence[str], ours: str) -> list[Rule]:
    inner = width // c.compress
    return [
        *_conv(names[0], ours + "conv1", width, inner, c.residual_kernel_size),
        *_conv(names[1], ours + "conv2", inner, width, 1),
    ]


def _conv_next(theirs: str, ours: str, width: int) -> list[Rule]:
    """`codec.causal_conv.ConvNeXtBlock`: 7 taps, an MLP four times as wide."""
    return [
        matrix(theirs + "dwconv.conv.weight", ours + "taps", width, 1, 7),
        rows(theirs + "dwconv.conv.bias", ours + "bias", width),
        rows(theirs + "norm.weight", ours + "norm/scale", width),
        rows(theirs + "norm.bias", ours + "norm/bias", width),
        *_linear(theirs + "pwconv1", ours + "fc1", 4 * width, width),
        *_linear(theirs + "pwconv2", ours + "fc2", width, 4 * width),
        rows(theirs + "gamma", ours + "scale", width),
    ]


def _conv(theirs: str, ours: str, inner: int, out: int, kernel: int) -> list[Rule]:
    return [
        Rule(theirs + ".conv.weight", out, (Part(ours + "/kernel"),), (inner, kernel), "taps"),
        rows(theirs + ".conv.bias", ours + "/bias", out),
    ]


def _transposed(theirs: str, ours: str, inner: int, out: int, kernel: int) -> list[Rule]:
    return [
        Rule(theirs + ".conv.weight", inner, (Part(ours + "/kernel"),), (out, kernel), "experts"),
        rows(theirs + ".conv.bias", ours + "/bias", out),
    ]


def _snake(theirs: str, ours: str, width: int) -> list[Rule]:
    return [rows(f"{theirs}.{name}", f"{ours}/{name}", width) for name in ("alpha", "beta")]


def _norm(theirs: str, ours: str, c: WindowTransformerConfig, dim: int) -> list[Rule]:
    if c.norm == "rms":
        return [rows(theirs + ".weight", ours, dim)]
    return [rows(theirs + ".weight", ours + "/scale", dim), rows(theirs + ".bias", ours + "/bias", dim)]


def _linear(theirs: str, ours: str, out: int, inner: int) -> list[Rule]:
    return [matrix(theirs + ".weight", ours + "/kernel", out, inner), rows(theirs + ".bias", ours + "/bias", out)]
