"""Configuration of training."""

import dataclasses

from qomni_jax.config.validation import check_types, require, require_positive


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up, cosine decay to `final_scale` of the peak, and clipping by global norm."""

    learning_rate: float = 4e-3
    warmup_steps: int = 100
    final_scale: float = 0.02
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "learning_rate", "clip_norm")
        require(self.warmup_steps >= 0, self, "warmup_steps", "0 or more")
        require(self.weight_decay >= 0, self, "weight_decay", "0 or more")
        require(0 <= self.final_scale <= 1, self, "final_scale", "a number in 0..1")
        for field in ("beta1", "beta2"):
            require(0 <= getattr(self, field) < 1, self, field, "a number in 0..1")


@dataclasses.dataclass(frozen=True)
class TalkerTrainingConfig:
    """How a Talker is trained.

    Attributes:
      steps, batch_size: optimiser steps and utterances a step.
      row_length: stream steps of one packed row, raised to the longest utterance where that is longer.
      frame_dropout: input frames hidden from the model: a row's share is drawn from 0..2 * frame_dropout.
      voice_dropout: share of rows whose voice token is replaced by the unknown voice.
      residual_frames: frames an utterance on which the residual module is trained in a step.
      residual_weight, router_aux_weight: weights of these losses beside the first codebook's cross-entropy.
      seed: of parameters, data order and every random draw.
      log_every, checkpoint_every: steps between log lines and between checkpoints.
    """

    steps: int = 1500
    batch_size: int = 36
    row_length: int = 128
    frame_dropout: float = 0.4
    voice_dropout: float = 0.05
    residual_frames: int = 10
    residual_weight: float = 0.5
    router_aux_weight: float = 0.01
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    log_every: int = 25
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "steps", "batch_size", "row_length", "residual_frames", "log_every", "checkpoint_every")
        require(0 <= self.frame_dropout <= 0.5, self, "frame_dropout", "a number in 0..0.5")
        require(0 <= self.voice_dropout <= 1, self, "voice_dropout", "a number in 0..1")
        for field in ("residual_weight", "router_aux_weight"):
            require(getattr(self, field) >= 0, self, field, "0 or more")
        require(self.seed >= 0, self, "seed", "0 or more")


@dataclasses.dataclass(frozen=True)
class LanguageModelTrainingConfig:
    """How a decoder language model is trained.

    Attributes:
      steps, batch_size, sequence_length: optimiser steps, packed rows a step, tokens a row.
      mtp_weight: weight of the multi-token-prediction loss, where the model has that head.
      loss_chunk: tokens a device whose logits exist at one time.
      seed: of parameters, data order and every random draw.
      log_every, checkpoint_every: steps between log lines and between checkpoints.
    """

    steps: int = 1000
    batch_size: int = 8
    sequence_length: int = 1024
    mtp_weight: float = 0.3
    loss_chunk: int = 1024
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    log_every: int = 25
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        check_types(self)
        sizes = ("steps", "batch_size", "sequence_length", "loss_chunk", "log_every", "checkpoint_every")
        require_positive(self, *sizes)
        require(self.mtp_weight >= 0, self, "mtp_weight", "0 or more")
        require(self.seed >= 0, self, "seed", "0 or more")


@dataclasses.dataclass(frozen=True)
class ThinkerTrainingConfig(LanguageModelTrainingConfig):
    """How a Thinker is trained: as its language model is, on conversations with media.

    Attributes:
      batch_size: conversations a step; they are packed into rows of `sequence_length` tokens.
      recording_frames: the lengths, in feature frames, that the recordings of a step are padded to; a step draws one of
        those that hold its longest recording. Each is a program of its own.
      ctc_weight: weight of the connectionist temporal classification loss of the audio encoder's tokens against what
        is said, with a head that training alone has; a decoder learns where to listen much sooner with it.
      caption_weight: weight of the classification loss of the vision encoder's pictures against what they show, with a
        head that training alone has: the same for seeing.
    """

    sequence_length: int = 512
    recording_frames: tuple[int, ...] = (320, 640)
    ctc_weight: float = 1.0
    caption_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        frames = self.recording_frames
        increasing = bool(frames) and min(frames) > 0 and sorted(set(frames)) == list(frames)
        require(increasing, self, "recording_frames", "one number of frames or more, increasing")
        for field in ("ctc_weight", "caption_weight"):
            require(getattr(self, field) >= 0, self, field, "0 or more")


@dataclasses.dataclass(frozen=True)
class VisionTrainingConfig:
    """How a vision encoder is trained on pictures with captions.

    Attributes:
      steps, batch_size: optimiser steps, and pictures or clips a step.
      seed: of the head's parameters and of the data order.
      log_every, checkpoint_every: steps between log lines and between checkpoints.
    """

    steps: int = 1000
    batch_size: int = 32
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    log_every: int = 25
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        check_types(self)
        require_positive(self, "steps", "batch_size", "log_every", "checkpoint_every")
        require(self.seed >= 0, self, "seed", "0 or more")
