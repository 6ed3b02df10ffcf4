"""gin flags for every experiment: the configuration dataclasses by name, and one clear error for a wrong binding."""

from collections.abc import Sequence
import re
import tokenize
from typing import TypeVar

import gin

from data_pipelines.rendered_media import config as rendered_media
from data_pipelines.rendered_media.config import RenderedMediaConfig
from data_pipelines.speech_corpus import presets
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from data_pipelines.transcription import TranscriptionConfig
from experiments.study.config import Arm, EvaluationConfig, StudyConfig
from experiments.thinker.config import MediaStage, SeeingStage, TrainConfig, TranscriptionStage
from experiments.voice.config import VoicePromptConfig, VoiceStage
from qomni_jax import sizes
from qomni_jax.config.audio import AudioEncoderConfig, AudioFeatureConfig
from qomni_jax.config.codec import CodecConfig, CodecTrainingConfig, LogMelConfig, RVQConfig, VocoderConfig
from qomni_jax.config.decoder import (
    AttentionConfig,
    DecoderConfig,
    FeedForwardConfig,
    GatedDeltaNetConfig,
    LanguageModelConfig,
)
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.talker import InterleaverConfig, TalkerConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.training import (
    OptimizerConfig,
    TalkerTrainingConfig,
    ThinkerTrainingConfig,
    VisionTrainingConfig,
)
from qomni_jax.config.vision import VisionEncoderConfig

_CONFIGURABLES = (
    Arm,
    AttentionConfig,
    AudioEncoderConfig,
    AudioFeatureConfig,
    CodecConfig,
    CodecTrainingConfig,
    CorpusConfig,
    DecoderConfig,
    EncoderConfig,
    EvaluationConfig,
    FeedForwardConfig,
    GatedDeltaNetConfig,
    InterleaverConfig,
    LanguageModelConfig,
    LogMelConfig,
    MediaStage,
    OptimizerConfig,
    RenderedMediaConfig,
    RVQConfig,
    SeeingStage,
    SequenceConfig,
    SplitConfig,
    StudyConfig,
    TalkerConfig,
    TalkerTrainingConfig,
    ThinkerConfig,
    ThinkerTrainingConfig,
    TrainConfig,
    TranscriptionConfig,
    TranscriptionStage,
    VisionEncoderConfig,
    VisionTrainingConfig,
    VocoderConfig,
    VoicePromptConfig,
    VoiceStage,
    presets.demo_corpus,
    presets.multilingual_corpus,
    presets.quick_corpus,
    presets.voices_corpus,
    rendered_media.demo_media,
    rendered_media.quick_media,
    sizes.talker_small,
    sizes.talker_tiny,
    sizes.thinker_small,
    sizes.thinker_tiny,
)
for _configurable in _CONFIGURABLES:
    gin.external_configurable(_configurable, module=None)
gin.external_configurable(rendered_media.SplitConfig, name="MediaSplitConfig", module=None)


Config = TypeVar("Config", StudyConfig, TrainConfig)
_EXAMPLES: dict[type, str] = {StudyConfig: "aria_demo.gin", TrainConfig: "thinker_cpu.gin"}
_BOUND_NAME = re.compile(r"^\s*([\w./]+)\s*=", re.MULTILINE)


class ConfigError(ValueError):
    """A gin file or binding that is not accepted."""


def load_config(kind: type[Config], gin_files: Sequence[str], bindings: Sequence[str]) -> tuple[Config, str]:
    """The `kind` of configuration that gin files and bindings describe, and the operative one as gin text.

    Raises ConfigError with one line that names the file, name or value and what is accepted.
    """
    if not gin_files:
        raise ConfigError(
            f"--gin_file is missing: accepted is one gin file or more, such as experiments/configs/{_EXAMPLES[kind]}"
        )
    gin.clear_config()
    try:
        gin.parse_config_files_and_bindings(list(gin_files), list(bindings), print_includes_and_imports=False)
        config = gin.get_configurable(kind.__name__)()
    except tokenize.TokenError as error:
        where = " ".join(" ".join([*gin_files, *bindings]).split())
        raise ConfigError(f"{where}: accepted is gin's syntax ({error.args[0]})") from None
    except (ValueError, TypeError, OSError, SyntaxError, RuntimeError) as error:
        raise ConfigError(_one_line(error)) from None
    operative = gin.operative_config_str()
    _refuse_unread(bindings, operative)
    return config, operative


def _refuse_unread(bindings: Sequence[str], operative: str) -> None:
    """A binding of the command line that is not read is a slip of the pen, not a wish.

    A binding under the scopes a/b also acts in a/b/c.
    """
    read = [_split_scopes(name) for name in _BOUND_NAME.findall(operative)]
    for name in (name for binding in bindings for name in _BOUND_NAME.findall(binding)):
        scopes, parameter = _split_scopes(name)
        if not any(p == parameter and within[: len(scopes)] == scopes for within, p in read):
            raise ConfigError(
                f"--gin_bindings: this configuration does not read {name}; accepted are names that it reads"
            )


def _split_scopes(name: str) -> tuple[list[str], str]:
    *scopes, parameter = name.split("/")
    return scopes, parameter


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
