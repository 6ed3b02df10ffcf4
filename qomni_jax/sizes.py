"""Named sizes. `tiny` is for tests, with every part in it and few numbers; `small` is the CPU study's Talker."""

from qomni_jax.config.decoder import AttentionConfig, DecoderConfig, FeedForwardConfig, GatedDeltaNetConfig
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
