"""Configuration of a conversation as one sequence: how time is written and which position ids it gives."""

import dataclasses

from qomni_jax.config.validation import check_types, require, require_one_of, require_positive

TIME_ENCODINGS = ("timestamps", "timestamps_and_tmrope", "tmrope")
TEMPORAL_IDS = ("continuous", "grid")


@dataclasses.dataclass(frozen=True)
class SequenceConfig:
    """How media, their times and their positions are laid out. The defaults are the system's own.

    Attributes:
      time_encoding: `timestamps` writes times as text and numbers tokens in plain order (Qwen3.5), `tmrope` writes none
        and lets temporal ids follow real time (Qwen3-Omni), `timestamps_and_tmrope` does both (Qwen3.5-Omni report,
        section 3). Where times are written every temporal patch of a video has brackets of its own, else the video has
        one pair.
      temporal_ids: real time as ids: `grid`, whole ids, one a cell of 1 / `ids_per_second`; `continuous`, fractions of
        them (Qwen3-Omni, with `tmrope` alone).
      ids_per_second: temporal ids a second of real time.
      audio_tokens_per_second: rate of the audio encoder, which gives audio timestamps; an audio token is one id.
      spatial_merge: patches that one token spans in height and in width.
      audio_timestamp_interval: seconds between timestamps in audio, at inference; with these, 10 hours of audio still
        fit a context of 262,144 tokens.
      audio_timestamp_range: least and greatest of the random intervals, in seconds, in training.
    """

    time_encoding: str = "timestamps_and_tmrope"
    temporal_ids: str = "grid"
    ids_per_second: float = 6.25
    audio_tokens_per_second: float = 6.25
    spatial_merge: int = 2
    audio_timestamp_interval: float = 20.0
    audio_timestamp_range: tuple[float, float] = (2.0, 38.0)

    def __post_init__(self) -> None:
        check_types(self)
        require_one_of(self, "time_encoding", TIME_ENCODINGS)
        require_one_of(self, "temporal_ids", TEMPORAL_IDS)
        require_positive(self, "ids_per_second", "audio_tokens_per_second", "spatial_merge")
        require(
            self.temporal_ids == "grid" or self.time_encoding == "tmrope",
            self,
            "temporal_ids",
            f"grid, with time_encoding {self.time_encoding}",
        )
        token = 1.0 / self.audio_tokens_per_second
        require(self.audio_timestamp_interval >= token, self, "audio_timestamp_interval", f"{token} (a token) or more")
        least, greatest = self.audio_timestamp_range
        require(
            token <= least <= greatest, self, "audio_timestamp_range", f"two times, {token} (a token) or more, in order"
        )

    @property
    def writes_timestamps(self) -> bool:
        return self.time_encoding != "tmrope"

    @property
    def follows_time(self) -> bool:
        """Whether temporal ids follow real time."""
        return self.time_encoding != "timestamps"


def qomni() -> SequenceConfig:
    """The system: timestamps in the text, and temporal ids of 160 ms."""
    return SequenceConfig()


def qwen3_5() -> SequenceConfig:
    """Qwen3.5 (and Qwen3-VL): `<t seconds>` and brackets around each temporal patch, whole ids in plain order."""
    return SequenceConfig(time_encoding="timestamps")


def qwen3_omni() -> SequenceConfig:
    """Qwen3-Omni-30B-A3B: one pair of brackets around a video, 13 ids a second, which may be fractions."""
    return SequenceConfig(
        time_encoding="tmrope", temporal_ids="continuous", ids_per_second=13.0, audio_tokens_per_second=12.5
    )
