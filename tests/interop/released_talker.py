"""A tiny random Talker as it is released, and what it says: plain float64 numpy from released names and layouts.

Nothing is cached here: every frame reads the whole row anew.
"""

import math

import numpy as np

from qomni_jax.interop.talker_families import parse_talker
from qomni_jax.interop.talker_keys import talker_key_map

CODEBOOKS, CODES, WIDTH, LAYERS = 3, 11, 16, 2
BOS, EOS = 21, 22
TALKER = {
    "accept_hidden_layer": 2,
    "code_predictor_config": {
        "head_dim": 8,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": 20,
        "num_attention_heads": 2,
        "num_code_groups": CODEBOOKS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 1,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
        "vocab_size": CODES,
    },
    "codec_pad_id": 20,
    "codec_bos_id": BOS,
    "codec_eos_token_id": EOS,
    "codec_nothink_id": 23,
    "codec_think_bos_id": 24,
    "codec_think_eos_id": 25,
    "num_code_groups": CODEBOOKS,
    "speaker_id": {"chelsie": 26, "ethan": 27},
    "text_config": {
        "head_dim": 8,
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": 12,
        "moe_intermediate_size": 6,
        "norm_topk_prob": True,
        "num_attention_heads": 4,
        "num_experts_per_tok": 2,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 2,
        "num_local_experts": 4,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"interleaved": True, "mrope_section": [2, 1, 1], "rope_theta": 1e6, "rope_type": "default"},
        "shared_expert_intermediate_size": 10,
        "vocab_size": 1024 + CODES,
    },
    "thinker_hidden_size": 32,
}
# Which of the three positions each of the four frequencies of a head follows, sections being two, one and one.
AXES = [0, 1, 2, 0]

Tensors = dict[str, np.ndarray]


def random_talker() -> Tensors:
    """Every tensor random, experts one by one, codes spread so that argmax is not a matter of rounding."""
    rng = np.random.default_rng(7)
    tensors = {}
    for name, rule in talker_key_map(parse_talker(TALKER).config).items():
        value = rng.standard_normal(rule.shape)
        if "embedding" not in name and value.ndim > 1:
            value *= (4 if "head" in name else 1) / math.sqrt(rule.shape[1])
        elif value.ndim == 1:
            value = 0.2 * value + ("norm" in name)
        tensors[name] = value.astype(np.float32)
    return tensors


class PlainTalker:
    """The Talker in float64."""

    def __init__(self, tensors: Tensors):
        self.t = {name: value.astype(np.float64) for name, value in tensors.items()}

    def projected(self, name: str, x: np.ndarray) -> np.ndarray:
        """`text_projection` or `hidden_projection` of vectors of the Thinker's."""
        t, start = self.t, name + ".linear_fc"
        inner = x @ t[start + "1.weight"].T + t[start + "1.bias"]
        return _silu(inner) @ t[start + "2.weight"].T + t[start + "2.bias"]

    def code(self, index: int) -> np.ndarray:
        """The embedding of an id of the Talker's vocabulary."""
        return self.t["model.codec_embedding.weight"][index]

    def backbone(self, x: np.ndarray, positions: np.ndarray) -> list[np.ndarray]:
        """Outputs of the layers `[T, D]`, the last after the final norm; `positions [3, T]`."""
        return self._decoder("model.", x, positions[AXES].T, 4, 2)

    def residual_logits(self, hidden: np.ndarray, first: np.ndarray, codes: list[int]) -> np.ndarray:
        """Of codebooks 1 to `len(codes) + 1`, `[len(codes) + 1, K]`."""
        start = "code_predictor.model."
        embedded = [self.t[f"{start}codec_embedding.{level}.weight"][code] for level, code in enumerate(codes)]
        x = np.stack([hidden, first, *embedded])
        out = self._decoder(start, x, np.repeat(np.arange(len(x))[:, None], 4, axis=1), 2, 1)[-1]
        return np.stack([out[n + 1] @ self.t[f"code_predictor.lm_head.{n}.weight"].T for n in range(len(codes) + 1)])

    def greedy(
        self, prompt: np.ndarray, positions: np.ndarray, text: np.ndarray, pad: np.ndarray, frames: int, penalty: float
    ) -> np.ndarray:
        """The likeliest codes `[S, Q]`, codebook 0 with a penalty on what it said, no special token but the end."""
        x, said = prompt, []
        for number in range(frames):
            following = positions.max() + 1 + np.arange(number)
            where = np.concatenate([positions, np.tile(following, (3, 1))], axis=1)
            hidden = self.backbone(x, where)[-1][-1]
            logits = self.t["codec_head.weight"] @ hidden
            spoken = sorted({codes[0] for codes in said})
            logits[spoken] = np.where(logits[spoken] > 0, logits[spoken] / penalty, logits[spoken] * penalty)
            logits[[n for n in range(CODES, len(logits)) if n != EOS]] = -np.inf
            codes = [int(np.argmax(logits))]
            if codes[0] == EOS:
                break
            for _ in range(CODEBOOKS - 1):
                codes.append(int(np.argmax(self.residual_logits(hidden, self.code(codes[0]), codes[1:])[-1])))
            said.append(codes)
            step = self.code(codes[0]) + (text[number] if number < len(text) else pad)
            for level, code in enumerate(codes[1:]):
                step = step + self.t[f"code_predictor.model.codec_embedding.{level}.weight"][code]
            x = np.concatenate([x, step[None]])
        return np.array(said)

    def _decoder(self, start: str, x: np.ndarray, positions: np.ndarray, heads: int, kv: int) -> list[np.ndarray]:
        outputs = []
        for number in range(LAYERS):
            layer = f"{start}layers.{number}."
            normed = _norm(x, self.t[layer + "input_layernorm.weight"])
            x = x + self._attention(layer + "self_attn.", normed, positions, heads, kv)
            normed = _norm(x, self.t[layer + "post_attention_layernorm.weight"])
            sparse = layer + "mlp.gate.weight" in self.t
            x = x + (self._experts if sparse else self._swiglu)(layer + "mlp.", normed)
            outputs.append(x)
        return [*outputs[:-1], _norm(x, self.t[start + "norm.weight"])]

    def _attention(self, start: str, x: np.ndarray, positions: np.ndarray, heads: int, kv: int) -> np.ndarray:
        """`positions [T, 4]`, one a frequency."""
        q, k, v = ((x @ self.t[f"{start}{name}_proj.weight"].T).reshape(len(x), -1, 8) for name in "qkv")
        q, k = (_turned(_norm(a, self.t[f"{start}{name}_norm.weight"]), positions) for a, name in ((q, "q"), (k, "k")))
        k, v = (np.repeat(a, heads // kv, axis=1) for a in (k, v))
        scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(8)
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        out = np.einsum("hts,shd->thd", _softmax(scores), v)
        return out.reshape(len(x), -1) @ self.t[start + "o_proj.weight"].T

    def _experts(self, start: str, x: np.ndarray) -> np.ndarray:
        t = self.t
        weights = _softmax(x @ t[start + "gate.weight"].T)
        chosen = np.argsort(-weights, axis=-1)[:, :2]
        y = np.zeros_like(x)
        for row, experts in enumerate(chosen):
            for expert in experts:
                share = weights[row, expert] / weights[row, experts].sum()
                y[row] += share * self._swiglu(f"{start}experts.{expert}.", x[row])
        gate = 1 / (1 + np.exp(-x @ t[start + "shared_expert_gate.weight"].T))
        return y + gate * self._swiglu(start + "shared_expert.", x)

    def _swiglu(self, start: str, x: np.ndarray) -> np.ndarray:
        gate, up, down = (self.t[f"{start}{name}_proj.weight"].T for name in ("gate", "up", "down"))
        return (_silu(x @ gate) * (x @ up)) @ down


def _norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return weight * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def _turned(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    angles = (positions * 1e6 ** (-np.arange(4) / 4))[:, None]
    first, second = x[..., :4], x[..., 4:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
