"""From a configuration to the scheme it names."""

from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.talker.aria import Aria
from qomni_jax.talker.dual_track import DualTrack
from qomni_jax.talker.fixed_rate import FixedRate
from qomni_jax.talker.interleaver import Interleaver


def make_interleaver(config: InterleaverConfig) -> Interleaver:
    """The interleaver of `config.scheme`."""
    schemes: dict[str, type] = {"aria": Aria, "dual_track": DualTrack, "fixed_rate": FixedRate}
    return schemes[config.scheme](config)
