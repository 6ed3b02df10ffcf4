"""Tiny random codecs as they are released, and what they compute: plain float64 numpy from released names and layouts.

Nothing streams here. Convolutions pad and transposed convolutions cut as the released models do, each on its own.
"""

import math

import numpy as np

from qomni_jax.interop.codec_families import parse_codec
from qomni_jax.interop.codec_keys import codec_key_map

_QWEN = {
    "codebook_size": 11,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "sliding_window": 4,
    "intermediate_size": 12,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "num_hidden_layers": 2,
    "num_quantizers": 3,
    "upsample_rates": [3, 2],
    "upsampling_ratios": [2],
    "decoder_dim": 16,
}
CONFIGS = {
    "qwen3_omni_code2wav": _QWEN,
    "qwen3_tts_12hz_decoder": _QWEN | {"codebook_dim": 8, "latent_dim": 10, "head_dim": 6, "rope_theta": 100},
    "mimi": {
        "model_type": "mimi",
        "sampling_rate": 24_000,
        "hidden_size": 8,
        "num_filters": 4,
        "num_residual_layers": 2,
        "upsampling_ratios": [3, 2],
        "codebook_size": 9,
        "codebook_dim": 4,
        "vector_quantization_hidden_dimension": 4,
        "num_quantizers": 4,
        "num_semantic_quantizers": 1,
        "kernel_size": 7,
        "last_kernel_size": 3,
        "residual_kernel_size": 3,
        "dilation_growth_rate": 2,
        "compress": 2,
        "num_hidden_layers": 2,
        "intermediate_size": 12,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "hidden_act": "gelu",
        "norm_eps": 1e-5,
        "sliding_window": 5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
    },
}
FRAMES = 11
SEEDS = {name: number for number, name in enumerate(CONFIGS)}

Tensors = dict[str, np.ndarray]


def random_tensors(name: str) -> Tensors:
    """A released checkpoint: every tensor random, so that none of them can be left out or mistaken for another."""
    rng = np.random.default_rng(SEEDS[name])
    tensors = {}
    for key, rule in codec_key_map(parse_codec(CONFIGS[name]).config, name).items():
        value = rng.standard_normal(rule.shape)
        if key.endswith("cluster_usage"):
            value = 0.5 + value**2
            value[0] = 0.0  # an entry that nothing chose
        elif key.endswith(("embed_sum", "embedding_sum")):
            value[0] *= 1e-5
        elif value.ndim > 1:
            value /= math.sqrt(math.prod(rule.shape[1:])) * (8 if key == "decoder.4.conv.weight" else 1)  # few clipped
        else:
            value = 0.3 * value + ("norm" in key and key.endswith("weight")) + ("scale" in key) * 0.5
        tensors[key] = value.astype(np.float32)
    return tensors


def mimi_flags() -> Tensors:
    """One a codebook, which the released file has and nothing computes with; values here tell them apart."""
    names = [
        f"{_MIMI[0][0]}.layers.0",
        *(f"{_MIMI[0][1]}.layers.{n}" for n in range(CONFIGS["mimi"]["num_quantizers"] - 1)),
    ]
    return {f"quantizer.{name}.codebook.initialized": np.full(1, n, np.float32) for n, name in enumerate(names)}


def random_codes(name: str, rows: int = 2) -> np.ndarray:
    """`[rows, Q, FRAMES]`"""
    config = CONFIGS[name]
    return np.random.default_rng(9).integers(0, config["codebook_size"], (rows, config["num_quantizers"], FRAMES))


def decode(name: str, tensors: Tensors, codes: np.ndarray) -> np.ndarray:
    """`[Q, T]` -> samples `[n]`."""
    t = {key: value.astype(np.float64) for key, value in tensors.items()}
    config = CONFIGS[name]
    if name == "mimi":
        x = _transposed(_dequantized(t, _MIMI, codes), t["upsample.conv.weight"], None, 2, 0, 2, depthwise=True)
        x = _transformer(t, "decoder_transformer.", x.T, config).T
        x, at = _conv_at(t, "decoder.layers.0", x), 1
        for rate in config["upsampling_ratios"]:
            weight, bias = t[f"decoder.layers.{at + 1}.conv.weight"], t[f"decoder.layers.{at + 1}.conv.bias"]
            x, at = _transposed(_elu(x), weight, bias, rate, 0, rate), at + 2
            x, at = _elu_units(t, "decoder.layers.", x, at), at + 2
        return _conv_at(t, f"decoder.layers.{at + 1}", _elu(x))[0]
    left = name == "qwen3_omni_code2wav"
    if left:
        table = t["code_embedding.weight"].reshape(len(codes), -1, config["hidden_size"])
        x = np.mean([book[row] for book, row in zip(table, codes, strict=True)], axis=0)
    else:
        x = _conv_at(t, "pre_conv", _dequantized(t, _TTS, codes)).T
        x = x @ t["pre_transformer.input_proj.weight"].T + t["pre_transformer.input_proj.bias"]
    x = _transformer(t, "pre_transformer.", x, config)
    if not left:
        x = x @ t["pre_transformer.output_proj.weight"].T + t["pre_transformer.output_proj.bias"]
    x = _conv_next(t, "upsample.0.1.", _transposed(x.T, t["upsample.0.0.conv.weight"], t["upsample.0.0.conv.bias"], 2))
    x = _conv_at(t, "decoder.0", x)
    for index, rate in enumerate(config["upsample_rates"], 1):
        block = f"decoder.{index}.block."
        x = _snake(t, block + "0", x)
        weight, bias = t[block + "1.conv.weight"], t[block + "1.conv.bias"]
        x = _transposed(x, weight, bias, rate, rate if left else 0, rate)
        for number, dilation in enumerate((1, 3, 9), 2):
            unit = f"{block}{number}."
            h = _conv_at(t, unit + "conv1", _snake(t, unit + "act1", x), dilation)
            x = x + _conv_at(t, unit + "conv2", _snake(t, unit + "act2", h))
    return np.clip(_conv_at(t, "decoder.4", _snake(t, "decoder.3", x))[0], -1, 1)


def encode(tensors: Tensors, samples: np.ndarray) -> np.ndarray:
    """Mimi: `[n]` -> codes `[Q, T]`."""
    t = {key: value.astype(np.float64) for key, value in tensors.items()}
    config = CONFIGS["mimi"]
    x, at = _conv_at(t, "encoder.layers.0", samples[None].astype(np.float64)), 1
    for rate in reversed(config["upsampling_ratios"]):
        x, at = _elu_units(t, "encoder.layers.", x, at), at + 3
        x, at = _conv_at(t, f"encoder.layers.{at}", _elu(x), stride=rate), at + 1
    x = _conv_at(t, f"encoder.layers.{at + 1}", _elu(x))
    x = _transformer(t, "encoder_transformer.", x.T, config).T
    x = _conv(x, t["downsample.conv.weight"], 0.0, stride=2, mode="edge")
    codes = []
    for group, levels in zip(_MIMI[0], (1, config["num_quantizers"] - 1), strict=True):
        rest = t[f"quantizer.{group}.input_proj.weight"][:, :, 0] @ x
        for level in range(levels):
            book = _codebook(t, _MIMI, group, level)
            codes.append(np.argmin(((rest.T[:, None] - book) ** 2).sum(-1), axis=1))
            rest = rest - book[codes[-1]].T
    return np.stack(codes)


_MIMI = (
    ("semantic_residual_vector_quantizer", "acoustic_residual_vector_quantizer"),
    "layers.{}.codebook.",
    "embed_sum",
)
_TTS = (("rvq_first", "rvq_rest"), "vq.layers.{}._codebook.", "embedding_sum")


def _codebook(t: Tensors, names: tuple, group: str, level: int) -> np.ndarray:
    stem = f"quantizer.{group}.{names[1].format(level)}"
    return t[stem + names[2]] / np.maximum(t[stem + "cluster_usage"], 1e-5)[:, None]


def _dequantized(t: Tensors, names: tuple, codes: np.ndarray) -> np.ndarray:
    found = 0.0
    for group, rows in zip(names[0], (codes[:1], codes[1:]), strict=True):
        entries = sum(_codebook(t, names, group, level)[row] for level, row in enumerate(rows))
        found = found + t[f"quantizer.{group}.output_proj.weight"][:, :, 0] @ entries.T
    return found


def _conv_at(t: Tensors, name: str, x: np.ndarray, dilation: int = 1, stride: int = 1) -> np.ndarray:
    return _conv(x, t[name + ".conv.weight"], t[name + ".conv.bias"][:, None], dilation, stride)


def _conv(x, weight, bias, dilation=1, stride=1, mode="constant") -> np.ndarray:
    """`[I, T]`, `[O, I, K]` -> `[O, ceil(T / stride)]`; padded on the left, and on the right to whole strides."""
    taps = weight.shape[2]
    steps = -(-x.shape[1] // stride)
    x = np.pad(x, ((0, 0), ((taps - 1) * dilation + 1 - stride, steps * stride - x.shape[1])), mode=mode)
    last = (steps - 1) * stride + 1
    return bias + sum(weight[:, :, k] @ x[:, k * dilation : k * dilation + last : stride] for k in range(taps))


def _transposed(x, weight, bias, stride, left=0, right=0, *, depthwise=False) -> np.ndarray:
    """`[I, T]`, `[I, O, K]` -> all that the steps reach, without `left` and `right` at the ends."""
    taps = weight.shape[2]
    out = np.zeros((x.shape[0] if depthwise else weight.shape[1], (x.shape[1] - 1) * stride + taps))
    for step in range(x.shape[1]):
        spread = x[:, step, None] * weight[:, 0] if depthwise else np.einsum("i,iok->ok", x[:, step], weight)
        out[:, step * stride : step * stride + taps] += spread
    out = out if bias is None else out + bias[:, None]
    return out[:, left : out.shape[1] - right]


def _conv_next(t: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    weight = t[name + "dwconv.conv.weight"]
    padded = np.pad(x, ((0, 0), (6, 0)))
    h = sum(weight[:, 0, k, None] * padded[:, k : k + x.shape[1]] for k in range(7))
    h = _layer_norm((h + t[name + "dwconv.conv.bias"][:, None]).T, t, name + "norm", 1e-6)
    h = _gelu(h @ t[name + "pwconv1.weight"].T + t[name + "pwconv1.bias"])
    return x + ((h @ t[name + "pwconv2.weight"].T + t[name + "pwconv2.bias"]) * t[name + "gamma"]).T


def _transformer(t: Tensors, name: str, x: np.ndarray, config: dict) -> np.ndarray:
    mimi = name != "pre_transformer."
    for number in range(config["num_hidden_layers"]):
        layer = f"{name}layers.{number}."
        h = _attention(t, layer + "self_attn.", _any_norm(x, t, layer + "input_layernorm"), config)
        x = x + h * t[layer + "self_attn_layer_scale.scale"]
        h, mlp = _any_norm(x, t, layer + "post_attention_layernorm"), layer + "mlp."
        if mimi:
            h = _gelu(h @ t[mlp + "fc1.weight"].T) @ t[mlp + "fc2.weight"].T
        else:
            gate = h @ t[mlp + "gate_proj.weight"].T
            h = (gate / (1 + np.exp(-gate)) * (h @ t[mlp + "up_proj.weight"].T)) @ t[mlp + "down_proj.weight"].T
        x = x + h * t[layer + "mlp_layer_scale.scale"]
    return x if mimi else _any_norm(x, t, name + "norm")


def _attention(t: Tensors, name: str, x: np.ndarray, config: dict) -> np.ndarray:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim", config["hidden_size"] // heads)
    theta = config.get("rope_theta", config.get("rope_parameters", {}).get("rope_theta", 10_000.0))
    steps = len(x)
    q, k, v = ((x @ t[f"{name}{letter}_proj.weight"].T).reshape(steps, -1, dim).transpose(1, 0, 2) for letter in "qkv")
    angles = np.arange(steps)[:, None] * theta ** (-np.arange(dim // 2) / (dim // 2))
    cos, sin = np.cos(angles), np.sin(angles)

    def turned(a: np.ndarray) -> np.ndarray:
        first, second = a[..., : dim // 2], a[..., dim // 2 :]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    k, v = (np.repeat(a, heads // kv_heads, axis=0) for a in (turned(k), v))
    scores = turned(q) @ k.transpose(0, 2, 1) / math.sqrt(dim)
    distance = np.arange(steps)[:, None] - np.arange(steps)
    scores = np.where((distance >= 0) & (distance < config["sliding_window"]), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = (weights / weights.sum(-1, keepdims=True)) @ v
    return out.transpose(1, 0, 2).reshape(steps, -1) @ t[name + "o_proj.weight"].T


def _any_norm(x: np.ndarray, t: Tensors, name: str) -> np.ndarray:
    if name + ".bias" in t:
        return _layer_norm(x, t, name, 1e-5)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * t[name + ".weight"]


def _layer_norm(x: np.ndarray, t: Tensors, name: str, eps: float) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * t[name + ".weight"] + t[name + ".bias"]


def _elu_units(t: Tensors, stem: str, x: np.ndarray, at: int) -> np.ndarray:
    for number, dilation in enumerate((1, 2)):
        block = f"{stem}{at + number}.block."
        x = x + _conv_at(t, block + "3", _elu(_conv_at(t, block + "1", _elu(x), dilation)))
    return x


def _snake(t: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    alpha, beta = (np.exp(t[f"{name}.{part}"])[:, None] for part in ("alpha", "beta"))
    return x + np.sin(x * alpha) ** 2 / (beta + 1e-9)


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
