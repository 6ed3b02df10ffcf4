"""Which released tensor holds which part of our parameters: one table, read in both directions.

A released matrix is `[out, in]` where ours is `[in, out]`; a released layer is one index into our stacked arrays. A
`Rule` ties a released tensor to columns of one or more of our arrays. Its rows come in `groups`; a group holds a run of
rows for each of its `parts` in turn. Most rules have one part of width 1. Grouped ones un-group: in Qwen3-Next a key
head's queries, keys, values and gates stand together, in Qwen3.5 a query head and its output gate.
"""

from collections.abc import Iterable, Iterator, Mapping
import itertools
import math
from typing import NamedTuple

import numpy as np

from qomni_jax.config.decoder import DecoderConfig, LanguageModelConfig
from qomni_jax.interop.families import Family

_EMBEDDING = "embed_tokens.weight"
_PREFIXES = ("model.", "model.language_model.", "thinker.model.", "thinker.model.language_model.")
_EMBEDDINGS = {prefix + _EMBEDDING for prefix in _PREFIXES}


class Part(NamedTuple):
    """`width` rows of every group go to `groups * width` columns of `leaf`, from `offset` on."""

    leaf: str
    width: int = 1
    offset: int = 0


class Rule(NamedTuple):
    """One released tensor of shape `[groups * rows a group, *rest]`.

    Attributes:
      name: in the checkpoint.
      groups, parts: see the module.
      rest: the other released axes.
      kind: `columns`: ours has the released rows as its last axis (matrices, the convolution); `taps`: the same, and
        the other axes turned round instead of made one (dense convolutions); `rows`: axes stay (vectors, the
        embedding); `experts`: axis 0 stays and the matrices behind it are transposed (transposed convolutions, too).
      lead: indices into the leading axes of our array (period, place in its run, expert).
    """

    name: str
    groups: int
    parts: tuple[Part, ...]
    rest: tuple[int, ...] = ()
    kind: str = "columns"
    lead: tuple[int, ...] = ()

    @property
    def group_rows(self) -> int:
        """Released rows a group."""
        return sum(part.width for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the released tensor."""
        return (self.groups * self.group_rows, *self.rest)

    @property
    def group_size(self) -> int:
        """Elements a group."""
        return self.group_rows * math.prod(self.rest)

    def split(self, first: int, rows: np.ndarray) -> Iterator[tuple[str, tuple[int, ...], np.ndarray]]:
        """The released groups from number `first` on -> (our array, where in it, what to put there) for every part."""
        groups = rows.reshape(-1, self.group_rows, *self.rest)
        start = 0
        for part in self.parts:
            block = groups[:, start : start + part.width]
            start += part.width
            block = block.reshape(-1, *self.rest)
            if self.kind == "columns":
                block = block.reshape(len(block), -1).T
            elif self.kind == "taps":
                block = block.T
            elif self.kind == "experts":
                block = block.swapaxes(-1, -2)
            place = self._place(part, first, block.shape)
            yield part.leaf, place, block.reshape((1,) * len(self.lead) + block.shape)

    def places(self, first: int, last: int) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
        """(our array, where in it, which shape) of the parts of the groups `first..last`, for `join`."""
        for part in self.parts:
            count = (last - first) * part.width
            if self.kind == "columns":
                shape: tuple[int, ...] = (math.prod(self.rest), count)
            elif self.kind == "taps":
                shape = (*self.rest[::-1], count)
            elif self.kind == "experts":
                shape = (count, *self.rest[::-1])
            else:
                shape = (count, *self.rest)
            yield part.leaf, self._place(part, first, shape), (1,) * len(self.lead) + shape

    def join(self, blocks: list[np.ndarray]) -> np.ndarray:
        """The inverse of `split`: blocks of our arrays, in the order of `places` -> released rows."""
        pieces = []
        for part, block in zip(self.parts, blocks, strict=True):
            block = block.reshape(block.shape[len(self.lead) :])
            if self.kind in ("columns", "taps"):
                block = block.T
            elif self.kind == "experts":
                block = block.swapaxes(-1, -2)
            pieces.append(block.reshape(-1, part.width, *self.rest))
        rows = pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)
        return rows.reshape(-1, *self.rest)

    def _place(self, part: Part, first: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        start = part.offset + first * part.width
        inner = (0,) * (len(shape) - 1)
        return (*self.lead, *inner, start) if self.kind in ("columns", "taps") else (*self.lead, start, *inner)


class Layout(NamedTuple):
    """How a checkpoint names what may be named in two ways.

    Attributes:
      prefix: before `layers.0`: `model.` or, in a model with vision, `model.language_model.`; in a whole Qwen3-Omni
        `thinker.` stands before it.
      experts, mtp_experts: `fused` (one tensor for all experts) or `per_expert`, in the decoder and in the head.
    """

    prefix: str = "model."
    experts: str = "fused"
    mtp_experts: str = "fused"

    @property
    def head(self) -> str:
        """The name of the output head."""
        return self.prefix[: self.prefix.index("model.")] + "lm_head.weight"


def key_map(config: LanguageModelConfig, family: Family, layout: Layout) -> dict[str, Rule]:
    """Released name -> rule, for every tensor of the language model and of its multi-token-prediction head."""
    decoder = config.decoder
    dim = decoder.model_dim
    rules = [
        rows(layout.prefix + _EMBEDDING, "embed_tokens", config.vocab_size, dim),
        rows(f"{layout.prefix}norm.weight", "decoder/norm", dim),
    ]
    if not config.tie_embeddings:
        rules.append(matrix(layout.head, "lm_head/kernel", config.vocab_size, dim))
    rules += layer_rules(decoder, layout.prefix, layout.experts, grouped=family.grouped_projections)
    if config.num_mtp_layers:
        layer = _layer(decoder, "attention", layout.mtp_experts, False)
        rules += [scoped(rule, "mtp.layers.0.", "mtp/layer/", ()) for rule in layer]
        rules += [
            rows("mtp.pre_fc_norm_embedding.weight", "mtp/pre_fc_norm_embedding", dim),
            rows("mtp.pre_fc_norm_hidden.weight", "mtp/pre_fc_norm_hidden", dim),
            rows("mtp.norm.weight", "mtp/norm", dim),
            matrix("mtp.fc.weight", "mtp/fc/kernel", dim, 2 * dim),
        ]
    return {rule.name: rule for rule in rules}


def layer_rules(config: DecoderConfig, prefix: str, experts: str, *, grouped: bool = False) -> list[Rule]:
    """The rules of all layers of a `decoder`, with `prefix` before the released `layers.0`.

    `experts` as in `Layout`; `grouped`: Gated DeltaNet's projections come fused, grouped by key head.
    """
    rules = []
    for number in range(config.num_layers):
        period, place = divmod(number, len(config.pattern))
        kind, run, index = _runs(config.pattern)[place]
        layer = _layer(config, kind, experts, grouped)
        ours, theirs = f"decoder/periods/{kind}_{run}/", f"{prefix}layers.{number}."
        rules += [scoped(rule, theirs, ours, (period, index)) for rule in layer]
    return rules


def find_layout(names: Iterable[str]) -> Layout:
    """The layout that a checkpoint's names show."""
    prefix = "model."
    experts = {False: "per_expert", True: "per_expert"}
    for name in names:
        if name in _EMBEDDINGS:
            prefix = name.removesuffix(_EMBEDDING)
        if name.endswith(".mlp.experts.gate_up_proj") and not name.startswith("talker."):
            experts[name.startswith("mtp.")] = "fused"
    return Layout(prefix, experts[False], experts[True])


def leaf_shapes(rules: Mapping[str, Rule]) -> dict[str, tuple[int, ...]]:
    """Our array -> its shape: the smallest in which every rule has its place."""
    shapes: dict[str, tuple[int, ...]] = {}
    for rule in rules.values():
        for leaf, place, shape in rule.places(0, rule.groups):
            end = tuple(np.add(place, shape).tolist())
            shapes[leaf] = tuple(map(max, zip(shapes.get(leaf, end), end, strict=True)))
    return shapes


def matrix(name: str, leaf: str, out: int, *inner: int) -> Rule:
    """A released `[out, *inner]`, ours `[product of inner, out]`."""
    return Rule(name, out, (Part(leaf),), inner)


def rows(name: str, leaf: str, length: int, *rest: int) -> Rule:
    """A released `[length, *rest]` that ours equals."""
    return Rule(name, length, (Part(leaf),), rest, "rows")


def scoped(rule: Rule, theirs: str, ours: str, lead: tuple[int, ...] = ()) -> Rule:
    """The rule of a part of a model as one of the whole: prefixes of both names, the place in our stacked array."""
    parts = tuple(part._replace(leaf=ours + part.leaf) for part in rule.parts)
    return rule._replace(name=theirs + rule.name, parts=parts, lead=(*lead, *rule.lead))


def _layer(config: DecoderConfig, kind: str, experts: str, grouped: bool) -> list[Rule]:
    dim = config.model_dim
    mixer = _gated_delta_net(config, grouped) if kind == "gdn" else _attention(config)
    return [
        rows("input_layernorm.weight", "input_norm", dim),
        rows("post_attention_layernorm.weight", "post_norm", dim),
        *mixer,
        *_feed_forward(config, experts),
    ]


def _gated_delta_net(config: DecoderConfig, grouped: bool) -> list[Rule]:
    c, dim = config.gdn, config.model_dim
    heads, ratio = c.num_key_heads, c.num_value_heads // c.num_key_heads
    key_dim, value_dim = heads * c.head_key_dim, c.num_value_heads * c.head_value_dim
    qkv, z = "linear_attn/in_proj_qkv/kernel", "linear_attn/in_proj_z/kernel"
    b, a = "linear_attn/in_proj_b/kernel", "linear_attn/in_proj_a/kernel"
    if grouped:
        parts = (
            Part(qkv, c.head_key_dim),
            Part(qkv, c.head_key_dim, key_dim),
            Part(qkv, ratio * c.head_value_dim, 2 * key_dim),
            Part(z, ratio * c.head_value_dim),
        )
        projections = [
            Rule("linear_attn.in_proj_qkvz.weight", heads, parts, (dim,)),
            Rule("linear_attn.in_proj_ba.weight", heads, (Part(b, ratio), Part(a, ratio)), (dim,)),
        ]
    else:
        projections = [
            matrix("linear_attn.in_proj_qkv.weight", qkv, 2 * key_dim + value_dim, dim),
            matrix("linear_attn.in_proj_z.weight", z, value_dim, dim),
            matrix("linear_attn.in_proj_b.weight", b, c.num_value_heads, dim),
            matrix("linear_attn.in_proj_a.weight", a, c.num_value_heads, dim),
        ]
    return [
        *projections,
        matrix("linear_attn.conv1d.weight", "linear_attn/conv1d", 2 * key_dim + value_dim, 1, c.conv_width),
        rows("linear_attn.A_log", "linear_attn/A_log", c.num_value_heads),
        rows("linear_attn.dt_bias", "linear_attn/dt_bias", c.num_value_heads),
        rows("linear_attn.norm.weight", "linear_attn/norm", c.head_value_dim),
        matrix("linear_attn.out_proj.weight", "linear_attn/out_proj/kernel", dim, value_dim),
    ]


def _attention(config: DecoderConfig) -> list[Rule]:
    c, dim = config.attention, config.model_dim
    kv_dim = c.num_kv_heads * c.head_dim
    queries = [Part("self_attn/q_proj/kernel", c.head_dim)]
    if c.gated:
        queries.append(Part("self_attn/gate_proj/kernel", c.head_dim))
    return [
        Rule("self_attn.q_proj.weight", c.num_heads, tuple(queries), (dim,)),
        matrix("self_attn.k_proj.weight", "self_attn/k_proj/kernel", kv_dim, dim),
        matrix("self_attn.v_proj.weight", "self_attn/v_proj/kernel", kv_dim, dim),
        matrix("self_attn.o_proj.weight", "self_attn/o_proj/kernel", dim, c.num_heads * c.head_dim),
        rows("self_attn.q_norm.weight", "self_attn/q_norm", c.head_dim),
        rows("self_attn.k_norm.weight", "self_attn/k_norm", c.head_dim),
    ]


def _feed_forward(config: DecoderConfig, experts: str) -> list[Rule]:
    c, dim = config.feed_forward, config.model_dim
    if not c.num_experts:
        return _swiglu("mlp.", "feed_forward/mlp/", c.hidden_dim, dim)
    moe = "feed_forward/moe/"
    gate_up, down = moe + "experts_gate_up_proj", moe + "experts_down_proj"
    rules = [matrix("mlp.gate.weight", moe + "gate/kernel", c.num_experts, dim)]
    if c.hidden_dim:
        rules += [
            *_swiglu("mlp.shared_expert.", moe + "shared_expert/", c.hidden_dim, dim),
            matrix("mlp.shared_expert_gate.weight", moe + "shared_expert_gate/kernel", 1, dim),
        ]
    if experts == "fused":
        return [
            *rules,
            Rule("mlp.experts.gate_up_proj", c.num_experts, (Part(gate_up),), (2 * c.expert_dim, dim), "experts"),
            Rule("mlp.experts.down_proj", c.num_experts, (Part(down),), (dim, c.expert_dim), "experts"),
        ]
    for number in range(c.num_experts):
        one = f"mlp.experts.{number}."
        rules += [
            Rule(one + "gate_proj.weight", c.expert_dim, (Part(gate_up),), (dim,), lead=(number,)),
            Rule(one + "up_proj.weight", c.expert_dim, (Part(gate_up, 1, c.expert_dim),), (dim,), lead=(number,)),
            Rule(one + "down_proj.weight", dim, (Part(down),), (c.expert_dim,), lead=(number,)),
        ]
    return rules


def _swiglu(theirs: str, ours: str, hidden: int, dim: int) -> list[Rule]:
    return [
        matrix(theirs + "gate_proj.weight", ours + "gate_proj/kernel", hidden, dim),
        matrix(theirs + "up_proj.weight", ours + "up_proj/kernel", hidden, dim),
        matrix(theirs + "down_proj.weight", ours + "down_proj/kernel", dim, hidden),
    ]


def _runs(pattern: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Per layer of the pattern: its kind, the number of its run of equal layers, its place in the run."""
    runs = []
    for number, (kind, group) in enumerate(itertools.groupby(pattern)):
        runs += [(kind, number, index) for index, _ in enumerate(group)]
    return runs
