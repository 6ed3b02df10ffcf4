"""Named sizes: `tiny` for tests, with every part in it and few numbers; `small` for a CPU; the released ancestors; and
`flash` and `plus`, whose own layer sizes are not public: stand-ins with the sizes of their documented parents."""

from collections.abc import Callable

from qomni_jax.config.decoder import (
    AttentionConfig,
    DecoderConfig,
    FeedForwardConfig,
    GatedDeltaNetConfig,
    LanguageModelConfig,
)
from qomni_jax.config.talker import TalkerConfig


def talker_tiny(text_vocab_size: int = 320) -> TalkerConfig:
    """About 60,000 parameters: two periods of two layers, 3 codebooks of 32."""
    attention = AttentionConfig(num_heads=2, num_kv_heads=1, head_dim=16, rotary_fraction=0.5)
    return TalkerConfig(
        text_vocab_size=text_vocab_size,
        num_codebooks=3,
        codebook_size=32,
        decoder=DecoderConfig(
            model_dim=32,
            periods=2,
            pattern=("gdn", "attention"),
            gdn=GatedDeltaNetConfig(num_key_heads=1, num_value_heads=2, head_key_dim=8, head_value_dim=8, chunk_size=8),
            attention=attention,
            feed_forward=FeedForwardConfig(hidden_dim=32, num_experts=4, top_k=2, expert_dim=16, block_size=8),
        ),
        residual=DecoderConfig(
            model_dim=32,
            pattern=("attention",),
            attention=attention,
            feed_forward=FeedForwardConfig(hidden_dim=32, num_experts=0),
        ),
        max_positions=96,
    )


def talker_small(text_vocab_size: int = 384) -> TalkerConfig:
    """3.3 million parameters: one period of three GDN layers and one attention layer, 8 experts and a shared one in
    each, 4 codebooks of 256. The Talker of the CPU study."""
    return TalkerConfig(
        text_vocab_size=text_vocab_size,
        decoder=DecoderConfig(
            gdn=GatedDeltaNetConfig(num_key_heads=4, num_value_heads=4, head_key_dim=40, head_value_dim=40),
            attention=AttentionConfig(rotary_fraction=1.0),
            unroll=True,
        ),
        residual=DecoderConfig(
            pattern=("attention",),
            attention=AttentionConfig(rotary_fraction=1.0, gated=False),
            feed_forward=FeedForwardConfig(hidden_dim=480, num_experts=0),
            unroll=True,
        ),
    )


def language_model_tiny(vocab_size: int = 320) -> LanguageModelConfig:
    """About 150,000 parameters: two 3+1 periods, grouped heads of both kinds, experts and a shared one, sections, and
    the multi-token-prediction head."""
    return LanguageModelConfig(
        vocab_size=vocab_size,
        decoder=DecoderConfig(
            model_dim=32,
            periods=2,
            gdn=GatedDeltaNetConfig(num_key_heads=2, num_value_heads=4, head_key_dim=8, head_value_dim=8, chunk_size=8),
            attention=AttentionConfig(
                num_heads=4, num_kv_heads=2, head_dim=16, rotary_fraction=0.5, mrope_section=(2, 1, 1)
            ),
            feed_forward=FeedForwardConfig(hidden_dim=32, num_experts=4, top_k=2, expert_dim=16, block_size=8),
        ),
        num_mtp_layers=1,
    )


def language_model_small(vocab_size: int = 4096) -> LanguageModelConfig:
    """About 9 million parameters: two 3+1 periods, 8 experts, tied embeddings. Trains on a CPU."""
    return LanguageModelConfig(
        vocab_size=vocab_size,
        decoder=DecoderConfig(
            model_dim=256,
            periods=2,
            gdn=GatedDeltaNetConfig(num_key_heads=4, num_value_heads=4, head_key_dim=64, head_value_dim=64),
            attention=AttentionConfig(num_heads=4, num_kv_heads=2, head_dim=64, mrope_section=(3, 3, 2)),
            feed_forward=FeedForwardConfig(hidden_dim=128, num_experts=8, top_k=2, expert_dim=96),
        ),
        tie_embeddings=True,
    )


def qwen3_5_0p8b() -> LanguageModelConfig:
    """The text decoder of Qwen3.5-0.8B: dense, tied embeddings."""
    return _qwen3_5(6, 1024, 8, 2, 16, FeedForwardConfig(hidden_dim=3584, num_experts=0), tied=True)


def qwen3_5_27b() -> LanguageModelConfig:
    """The text decoder of Qwen3.5-27B: dense."""
    return _qwen3_5(16, 5120, 24, 4, 48, FeedForwardConfig(hidden_dim=17408, num_experts=0))


def qwen3_5_35b_a3b() -> LanguageModelConfig:
    """The text decoder of Qwen3.5-35B-A3B."""
    return _qwen3_5(10, 2048, 16, 2, 32, _experts(256, 8, 512))


def qwen3_5_122b_a10b() -> LanguageModelConfig:
    """The text decoder of Qwen3.5-122B-A10B."""
    return _qwen3_5(12, 3072, 32, 2, 64, _experts(256, 8, 1024))


def qwen3_5_397b_a17b() -> LanguageModelConfig:
    """The text decoder of Qwen3.5-397B-A17B."""
    return _qwen3_5(15, 4096, 32, 2, 64, _experts(512, 10, 1024))


def qwen3_next_80b_a3b() -> LanguageModelConfig:
    """Qwen3-Next-80B-A3B, without its multi-token-prediction head; its rotary embedding has one position."""
    return _qwen3_5(12, 2048, 16, 2, 32, _experts(512, 10, 512), vocab_size=151_936, sections=None, mtp=0)


def flash() -> LanguageModelConfig:
    """The Thinker's decoder of `flash`: a stand-in, with the sizes of Qwen3.5-35B-A3B."""
    return qwen3_5_35b_a3b()


def plus() -> LanguageModelConfig:
    """The Thinker's decoder of `plus`: a stand-in, with the sizes of Qwen3.5-397B-A17B."""
    return qwen3_5_397b_a17b()


LANGUAGE_MODELS: dict[str, Callable[[], LanguageModelConfig]] = {
    "tiny": language_model_tiny,
    "small": language_model_small,
    "flash": flash,
    "plus": plus,
    "qwen3_5_0p8b": qwen3_5_0p8b,
    "qwen3_5_27b": qwen3_5_27b,
    "qwen3_5_35b_a3b": qwen3_5_35b_a3b,
    "qwen3_5_122b_a10b": qwen3_5_122b_a10b,
    "qwen3_5_397b_a17b": qwen3_5_397b_a17b,
    "qwen3_next_80b_a3b": qwen3_next_80b_a3b,
}


def _experts(num_experts: int, top_k: int, width: int) -> FeedForwardConfig:
    return FeedForwardConfig(hidden_dim=width, num_experts=num_experts, top_k=top_k, expert_dim=width)


def _qwen3_5(
    periods: int,
    model_dim: int,
    num_heads: int,
    num_kv_heads: int,
    num_value_heads: int,
    feed_forward: FeedForwardConfig,
    *,
    vocab_size: int = 248_320,
    sections: tuple[int, ...] | None = (11, 11, 10),
    tied: bool = False,
    mtp: int = 1,
) -> LanguageModelConfig:
    return LanguageModelConfig(
        vocab_size=vocab_size,
        decoder=DecoderConfig(
            model_dim=model_dim,
            periods=periods,
            gdn=GatedDeltaNetConfig(
                num_key_heads=16, num_value_heads=num_value_heads, head_key_dim=128, head_value_dim=128, chunk_size=64
            ),
            attention=AttentionConfig(
                num_heads=num_heads,
                num_kv_heads=num_kv_heads,
                head_dim=256,
                rope_theta=1e7,
                mrope_section=sections,
            ),
            feed_forward=feed_forward,
        ),
        tie_embeddings=tied,
        num_mtp_layers=mtp,
    )
