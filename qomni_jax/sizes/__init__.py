"""Named sizes: `tiny` for tests, with every part in it and few numbers; `small` for a CPU; the released ancestors; and
`flash` and `plus`, whose own layer sizes are not public: stand-ins with the sizes of their documented parents."""

from collections.abc import Callable

from qomni_jax.config.audio import AudioEncoderConfig
from qomni_jax.config.decoder import (
    AttentionConfig,
    DecoderConfig,
    FeedForwardConfig,
    GatedDeltaNetConfig,
    LanguageModelConfig,
)
from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.qwen3_omni_talker import CodecTokens, Qwen3OmniTalkerConfig
from qomni_jax.config.talker import TalkerConfig
from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.vision import VisionEncoderConfig


def talker_tiny(text_vocab_size: int = 320) -> TalkerConfig:
    """About 74,000 parameters: two periods of two layers, 3 codebooks of 32."""
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
    """3.5 million parameters: one period of three GDN layers and one attention layer, 8 experts and a shared one in
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


def talker_flash() -> TalkerConfig:
    """The Talker of `flash` and `plus`, 3.8 billion parameters, of which a frame reads about a tenth: a stand-in, with
    the widths of Qwen3-Omni's Talker and its code predictor, the 3+1 period of Qwen3.5, and Qwen3.5's vocabulary."""
    return TalkerConfig(
        text_vocab_size=248_320,
        num_codebooks=16,
        codebook_size=2048,
        decoder=DecoderConfig(
            model_dim=1024,
            periods=5,
            gdn=GatedDeltaNetConfig(
                num_key_heads=16, num_value_heads=32, head_key_dim=128, head_value_dim=128, chunk_size=64
            ),
            attention=AttentionConfig(num_heads=16, num_kv_heads=2, head_dim=128, rotary_fraction=0.25, rope_theta=1e7),
            feed_forward=FeedForwardConfig(hidden_dim=768, num_experts=128, top_k=6, expert_dim=384),
        ),
        residual=DecoderConfig(
            model_dim=1024,
            periods=5,
            pattern=("attention",),
            attention=AttentionConfig(
                num_heads=16, num_kv_heads=8, head_dim=128, rotary_fraction=1.0, rope_theta=1e6, gated=False
            ),
            feed_forward=FeedForwardConfig(hidden_dim=3072, num_experts=0),
        ),
        max_positions=65_536,
    )


TALKERS: dict[str, Callable[[], TalkerConfig]] = {
    "tiny": talker_tiny,
    "small": talker_small,
    "flash": talker_flash,
    "plus": talker_flash,
}


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


def audio_encoder_tiny(output_dim: int = 32) -> AudioEncoderConfig:
    """About 20,000 parameters: two blocks, four convolutions, windows of 1.6 s. Output for `language_model_tiny`."""
    blocks = EncoderConfig(model_dim=32, num_layers=2, num_heads=2, mlp_dim=48)
    return AudioEncoderConfig(encoder=blocks, output_dim=output_dim, conv_channels=8, window=10)


def audio_encoder_small(output_dim: int = 256) -> AudioEncoderConfig:
    """0.7 million parameters: three blocks. Trains on a CPU."""
    blocks = EncoderConfig(model_dim=128, num_layers=3, num_heads=4, mlp_dim=512)
    return AudioEncoderConfig(encoder=blocks, output_dim=output_dim, conv_channels=32)


def audio_encoder(output_dim: int = 2048) -> AudioEncoderConfig:
    """The audio encoder of `flash` and (4096) of `plus`, 6.25 tokens a second: a stand-in, with Qwen3-Omni's widths."""
    return AudioEncoderConfig(encoder=_AUT_BLOCKS, output_dim=output_dim)


def qwen3_omni_audio() -> AudioEncoderConfig:
    """AuT of Qwen3-Omni: 13 tokens a second, windows of 8 s."""
    return AudioEncoderConfig(
        encoder=_AUT_BLOCKS,
        output_dim=2048,
        chunk_frames=100,
        num_convs=3,
        window=104,
        training_windows=(13, 104),
        projector="mlp",
    )


def vision_encoder_tiny(output_dim: int = 32) -> VisionEncoderConfig:
    """About 87,000 parameters, most of them in the patches: two blocks. Output for `language_model_tiny`."""
    blocks = EncoderConfig(model_dim=32, num_layers=2, num_heads=2, mlp_dim=48, norm_eps=1e-6, gelu="tanh")
    return VisionEncoderConfig(encoder=blocks, output_dim=output_dim, position_side=8)


def vision_encoder_small(output_dim: int = 256) -> VisionEncoderConfig:
    """1.4 million parameters: four blocks. Trains on a CPU."""
    blocks = EncoderConfig(model_dim=128, num_layers=4, num_heads=4, mlp_dim=512, norm_eps=1e-6, gelu="tanh")
    return VisionEncoderConfig(encoder=blocks, output_dim=output_dim, position_side=16)


def qwen3_5_vision(output_dim: int = 2048) -> VisionEncoderConfig:
    """The vision encoder of Qwen3.5, the same in all its sizes but for the output; also that of `flash` and `plus`."""
    return VisionEncoderConfig(encoder=_VISION_BLOCKS, output_dim=output_dim)


def qwen3_omni_vision() -> VisionEncoderConfig:
    """The vision encoder of Qwen3-Omni, with DeepStack."""
    return VisionEncoderConfig(encoder=_VISION_BLOCKS, output_dim=2048, deepstack_layers=(8, 16, 24))


def thinker_tiny(vocab_size: int = 320) -> ThinkerConfig:
    """About 260,000 parameters: `language_model_tiny` and both encoders."""
    return ThinkerConfig(language_model_tiny(vocab_size), audio_encoder_tiny(), vision_encoder_tiny())


def thinker_small(vocab_size: int = 4096) -> ThinkerConfig:
    """About 5.5 million parameters: a decoder of the small Talker's kind, with multimodal positions, and both encoders.
    Learns to hear within minutes on a CPU."""
    language_model = LanguageModelConfig(
        vocab_size=vocab_size,
        decoder=DecoderConfig(
            gdn=GatedDeltaNetConfig(num_key_heads=4, num_value_heads=4, head_key_dim=40, head_value_dim=40),
            attention=AttentionConfig(rotary_fraction=0.4, mrope_section=(4, 2, 2)),
            unroll=True,
        ),
        tie_embeddings=True,
    )
    audio = audio_encoder_small(language_model.decoder.model_dim)
    vision = vision_encoder_small(language_model.decoder.model_dim)
    return ThinkerConfig(language_model, audio, vision)


def thinker_flash() -> ThinkerConfig:
    """The Thinker of `flash` with both encoders."""
    return ThinkerConfig(flash(), audio_encoder(2048), qwen3_5_vision(2048))


def thinker_plus() -> ThinkerConfig:
    """The Thinker of `plus` with both encoders."""
    return ThinkerConfig(plus(), audio_encoder(4096), qwen3_5_vision(4096))


THINKERS: dict[str, Callable[[], ThinkerConfig]] = {
    "tiny": thinker_tiny,
    "small": thinker_small,
    "flash": thinker_flash,
    "plus": thinker_plus,
}


def qwen3_omni_thinker() -> ThinkerConfig:
    """The Thinker of Qwen3-Omni-30B-A3B: attention alone, no shared expert, DeepStack."""
    language_model = LanguageModelConfig(
        vocab_size=152_064,
        decoder=_qwen3_attention(
            model_dim=2048,
            periods=48,
            num_heads=32,
            num_kv_heads=4,
            sections=(24, 20, 20),
            feed_forward=FeedForwardConfig(hidden_dim=0, num_experts=128, top_k=8, expert_dim=768),
        ),
    )
    return ThinkerConfig(language_model, qwen3_omni_audio(), qwen3_omni_vision())


def qwen3_omni_talker() -> Qwen3OmniTalkerConfig:
    """The Talker of Qwen3-Omni-30B-A3B with its code predictor: 3.3 billion parameters, about 0.3 read a token."""
    return Qwen3OmniTalkerConfig(
        decoder=_qwen3_attention(
            periods=20,
            num_heads=16,
            num_kv_heads=2,
            sections=(24, 20, 20),
            feed_forward=FeedForwardConfig(hidden_dim=768, num_experts=128, top_k=6, expert_dim=384),
        ),
        predictor=_qwen3_attention(
            periods=5,
            num_heads=16,
            num_kv_heads=8,
            sections=None,
            feed_forward=FeedForwardConfig(hidden_dim=3072, num_experts=0),
        ),
        tokens=CodecTokens(
            pad=2148,
            bos=2149,
            eos=2150,
            nothink=2155,
            think_bos=2156,
            think_eos=2157,
            speakers=(("chelsie", 2301), ("ethan", 2302), ("aiden", 2303)),
        ),
    )


_AUT_BLOCKS = EncoderConfig(model_dim=1280, num_layers=32, num_heads=20, mlp_dim=5120)
_VISION_BLOCKS = EncoderConfig(model_dim=1152, num_layers=27, num_heads=16, mlp_dim=4304, norm_eps=1e-6, gelu="tanh")


def _qwen3_attention(
    periods: int,
    num_heads: int,
    num_kv_heads: int,
    feed_forward: FeedForwardConfig,
    *,
    sections: tuple[int, ...] | None,
    model_dim: int = 1024,
) -> DecoderConfig:
    """A decoder of Qwen3-Omni: attention alone, plain norms."""
    return DecoderConfig(
        model_dim=model_dim,
        periods=periods,
        pattern=("attention",),
        attention=AttentionConfig(
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=128,
            rotary_fraction=1.0,
            rope_theta=1e6,
            mrope_section=sections,
            gated=False,
        ),
        feed_forward=feed_forward,
        gdn=GatedDeltaNetConfig(
            num_key_heads=16, num_value_heads=32, head_key_dim=128, head_value_dim=128, chunk_size=64
        ),
        zero_centred_norms=False,
    )


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
