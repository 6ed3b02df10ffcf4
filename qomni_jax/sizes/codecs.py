"""Named sizes of codecs: a released one, and those of the system with its form."""

from collections.abc import Callable

from qomni_jax.config.waveform_codec import (
    CodeEmbeddingConfig,
    ConvStackConfig,
    WaveformCodecConfig,
    WaveformDecoderConfig,
    WindowTransformerConfig,
)


def qwen3_omni_code2wav() -> WaveformCodecConfig:
    """Code2Wav of Qwen3-Omni-30B-A3B: 16 codes of 2048 are 80 ms of sound at 24 kHz; 216,016,577 parameters."""
    transformer = WindowTransformerConfig(
        model_dim=1024, num_layers=8, num_heads=16, num_kv_heads=16, head_dim=64, mlp_dim=3072, window=72
    )
    stack = ConvStackConfig(channels=96, rates=(8, 5, 4, 3))
    return WaveformCodecConfig(
        CodeEmbeddingConfig(num_codebooks=16, codebook_size=2048, model_dim=1024),
        WaveformDecoderConfig(transformer, stack, upsampling_ratios=(2, 2), trim="both"),
    )


def waveform_codec_tiny() -> WaveformCodecConfig:
    """Code2Wav's parts with 91,000 parameters, strictly causal: 3 codes of 32 are 80 ms, for `talker_tiny`."""
    return _code2wav(3, 32, 16, 1, window=8, channels=4)


def waveform_codec_small() -> WaveformCodecConfig:
    """The same with 6.6 million: 4 codes of 256 are 80 ms, for `talker_small`."""
    return _code2wav(4, 256, 256, 4, window=72, channels=16)


def _code2wav(
    num_codebooks: int, codebook_size: int, width: int, num_layers: int, *, window: int, channels: int
) -> WaveformCodecConfig:
    transformer = WindowTransformerConfig(
        model_dim=width,
        num_layers=num_layers,
        num_heads=4,
        num_kv_heads=4,
        head_dim=width // 4,
        mlp_dim=3 * width,
        window=window,
    )
    stack = ConvStackConfig(channels=channels, rates=(8, 5, 4, 3))
    decoder = WaveformDecoderConfig(transformer, stack, upsampling_ratios=(2, 2))
    return WaveformCodecConfig(CodeEmbeddingConfig(num_codebooks, codebook_size, width), decoder)


CODECS: dict[str, Callable[[], WaveformCodecConfig]] = {
    "tiny": waveform_codec_tiny,
    "small": waveform_codec_small,
    "flash": qwen3_omni_code2wav,
    "plus": qwen3_omni_code2wav,
}
