"""How tokens and codes are drawn from logits."""

import dataclasses
from typing import Any

from qomni_jax.config.validation import check_types, require, require_positive


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """Drawing from logits, in this order: penalty, temperature, the three cuts, a draw. The default is greedy.

    Attributes:
      temperature: logits are divided by it; 0 takes the likeliest.
      top_k: classes kept, the likeliest ones; 0 keeps all.
      top_p: the likeliest classes are kept until their probabilities sum to this; 1 keeps all.
      min_p: classes are kept whose probability is at least this share of the likeliest one's; 0 keeps all.
      repetition_penalty: positive logits of tokens that stand in the row already are divided by it, negative ones
        multiplied; 1 changes nothing.
      seed: of the draws; a row's draws depend on it, on the row's own key and on the step, and on nothing else.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        require(self.temperature >= 0, self, "temperature", "0 (greedy) or more")
        require(self.top_k >= 0, self, "top_k", "0 (all classes) or more")
        require(0 < self.top_p <= 1, self, "top_p", "a number above 0, at most 1 (all classes)")
        require(0 <= self.min_p <= 1, self, "min_p", "a number in 0 (all classes) .. 1")
        require_positive(self, "repetition_penalty")
        require(0 <= self.seed < 2**32, self, "seed", "a whole number in 0 .. 2^32 - 1")

    @property
    def draw(self) -> dict[str, Any]:
        """The arguments of `ops.sampling.sample` by name."""
        return {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "min_p")}
