"""A question about a clip with its sound alone, its pictures alone, or both."""

from collections.abc import Sequence
import dataclasses

from qomni_jax.sequence.chat import Audio, Part, Turn, Video

INPUTS = ("audio", "video", "both")


def with_inputs(turns: Sequence[Turn], inputs: str) -> tuple[Turn, ...]:
    """The turns with every video that has sound reduced to `inputs`. Raises ValueError unless that is in `INPUTS`."""
    if inputs not in INPUTS:
        raise ValueError(f"inputs = {inputs!r}: accepted is one of {', '.join(INPUTS)}")

    def reduced(part: Part) -> Part:
        if inputs == "both" or not isinstance(part, Video) or not part.sound:
            return part
        return Audio(part.source) if inputs == "audio" else Video(part.source)

    return tuple(dataclasses.replace(turn, content=tuple(map(reduced, turn.content))) for turn in turns)
