"""Lower bounds of a step's time from what it does: operations, HBM traffic, traffic over each mesh axis."""

import dataclasses
from typing import Any

import numpy as np

from qomni_jax.config.decoder import LanguageModelConfig
from tpu_scripts.chips import Slice
from tpu_scripts.collectives import Collective, axes_of
from tpu_scripts.cost import Cost


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds that a step cannot go below, by resource, and bytes that reach a chip over each mesh axis.

    `operations` is the time of operations that run one after another, each as long as the slower of its products and
    its memory traffic takes; `exchanges` that of all exchanges in turn.
    """

    compute: float
    memory: float
    axes: dict[str, float]
    axis_bytes: dict[str, float]
    operations: float
    exchanges: float

    @property
    def serial(self) -> float:
        """Nothing hidden behind anything: operations and exchanges in turn."""
        return self.operations + self.exchanges

    @property
    def seconds(self) -> float:
        """All resources busy at once, with nothing waiting for anything: the slowest of them."""
        return max(self.compute, self.memory, *self.axes.values(), 0.0)

    @property
    def limit(self) -> str:
        """The resource that is slowest."""
        times = {"compute": self.compute, "memory": self.memory} | {f"{a} links": s for a, s in self.axes.items()}
        return max(times, key=lambda name: times[name])


def bounds(cost: Cost, piece: Slice, mesh: Any) -> Bounds:
    """Bounds on a chip of `piece` for a module compiled over `mesh`."""
    seconds = {axis: 0.0 for axis, size in mesh.shape.items() if size > 1}
    received = dict.fromkeys(seconds, 0.0)
    exchanges = 0.0
    coordinates = [device.coords for device in mesh.devices.flat]
    for collective in cost.collectives:
        groups = collective.groups or (tuple(range(mesh.size)),)
        axes = axes_of(groups, dict(mesh.shape))
        links = piece.links([coordinates[device] for device in groups[0]])
        size = len(groups[0])
        into_chip, over_link = traffic(collective, size, links)
        exchanges += collective.count * over_link / piece.chip.link_bandwidth
        for axis in axes:  # a group that spans several axes keeps the links of all of them busy
            seconds[axis] += collective.count * over_link / piece.chip.link_bandwidth
            received[axis] += collective.count * into_chip
    compute, memory = cost.flops / piece.chip.peak_flops, cost.hbm_bytes / piece.chip.hbm_bandwidth
    return Bounds(compute, memory, seconds, received, cost.busy_flops / piece.chip.peak_flops, exchanges)


def traffic(collective: Collective, size: int, links: int) -> tuple[float, float]:
    """Bytes that reach one chip, and bytes over its busiest link, of one exchange in a group of `size` chips.

    Rings in both directions: a gather or a scatter moves all but a chip's own part over `links` links, a reduction to
    all is one of each, an all-to-all travels a quarter of the ring on average, a permutation takes one link.
    """
    if size < 2:
        return 0.0, 0.0
    others = collective.bytes * (size - 1) / size
    if collective.kind == "all-reduce":
        return 2 * others, 2 * others / links
    if collective.kind == "all-to-all":
        return others, collective.bytes * size / 4 / links
    if collective.kind == "collective-permute":
        return collective.bytes, collective.bytes
    return others, others / links


def model_flops(config: LanguageModelConfig, *, tokens: int, context: float, training: bool) -> float:
    """Operations that the model's mathematics needs: two a weight and token, three times that in training.

    `context` is the mean number of tokens that an attention layer looks back on. Counted are matrix products with the
    weights that a token visits (chosen experts, shared expert, router, head), scores and weighted values, and the three
    products of the delta rule's recurrence with its state; not embeddings, norms or anything computed twice.
    """
    d, gdn, attention, ff = config.decoder, config.decoder.gdn, config.decoder.attention, config.decoder.feed_forward
    width = d.model_dim
    values = gdn.num_value_heads * gdn.head_value_dim
    gdn_weights = width * (gdn.conv_channels + values + 2 * gdn.num_value_heads) + values * width
    gdn_weights += gdn.conv_width * gdn.conv_channels
    gdn_state = 3 * gdn.num_value_heads * gdn.head_key_dim * gdn.head_value_dim
    heads, kv_heads = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    attention_weights = width * (heads * (3 if attention.gated else 2) + 2 * kv_heads)
    scores = 2 * heads * context
    feed_forward = 3 * width * ff.hidden_dim
    if ff.num_experts:
        feed_forward += ff.top_k * 3 * width * ff.expert_dim + width * (ff.num_experts + (ff.hidden_dim > 0))
    layers = {
        "gdn": gdn_weights + gdn_state + feed_forward,
        "attention": attention_weights + scores + feed_forward,
    }
    multiplied = d.periods * sum(layers[kind] for kind in d.pattern) + width * config.vocab_size
    if training and config.num_mtp_layers:
        multiplied += layers["attention"] + 2 * width * width + width * config.vocab_size
    return 2.0 * multiplied * tokens * (3 if training else 1)


def mean_context(sequence_length: int) -> float:
    """Tokens that a causal layer looks back on, itself included, on average over a row."""
    return float(np.mean([1, sequence_length]))
