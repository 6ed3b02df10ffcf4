"""When speech has run away: how long a loop, a silence or a whole answer may be."""

import dataclasses

from qomni_jax.config.validation import check_types, require, require_positive


@dataclasses.dataclass(frozen=True)
class RunawayConfig:
    """Limits of plausible speech, in seconds. What they are held against begins where the text ends.

    Attributes:
      repetition_seconds: the same frames over and over, as codebook 0 tells them.
      repetitions: rounds that a loop has to have gone, however long it is.
      longest_loop_seconds: of one round.
      silence_seconds: in a row.
      silence_level: decibels relative to full scale; a frame whose root mean square is below it is silent.
      seconds_per_token: of an answer, by its spoken tokens; three to four times what reading aloud takes.
      spare_seconds: more than that, and at least from the end of the text on.
    """

    repetition_seconds: float = 3.0
    repetitions: int = 3
    longest_loop_seconds: float = 2.0
    silence_seconds: float = 3.0
    silence_level: float = -50.0
    seconds_per_token: float = 1.0
    spare_seconds: float = 4.0

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "repetition_seconds", "longest_loop_seconds", "silence_seconds", "seconds_per_token")
        require(self.repetitions >= 2, self, "repetitions", "2 or more")
        require(self.silence_level < 0, self, "silence_level", "a number of decibels below 0")
        require(self.spare_seconds >= 0, self, "spare_seconds", "0 or more")
