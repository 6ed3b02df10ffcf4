"""A Talker of the smallest size with its codec and tokenizer, untrained, as it lies on disk."""

import jax
import numpy as np

from qomni_jax.codec import Codec
from qomni_jax.config.codec import CodecConfig, LogMelConfig, RVQConfig, VocoderConfig
from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.sizes import talker_tiny
from qomni_jax.talker.storage import SpeechConfig, StoredTalker
from qomni_jax.talker.voice_prompt import VOICE_TOKENS
from qomni_jax.training.talker_step import init_talker_state

CODEC = CodecConfig(
    log_mel=LogMelConfig(num_mels=20),
    rvq=RVQConfig(latent_dim=16, num_codebooks=3, codebook_size=32),
    vocoder=VocoderConfig(width=16, num_blocks=1, kernel_size=3, expansion=2),
)


def stored_talker(max_prompt: int = 40) -> StoredTalker:
    """Its logits are spread, so that what it says is not a matter of rounding."""
    tokenizer = TextTokenizer.train(["alpha bravo", "slow, soft"], 290, VOICE_TOKENS)
    config = talker_tiny(tokenizer.vocab_size)
    params = init_talker_state(config, TalkerTrainingConfig(steps=1)).params
    params = {**params, "codec_head": jax.tree.map(lambda x: 4 * x, params["codec_head"])}
    durations = tuple(np.linspace(0.5, 1.5, tokenizer.vocab_size).tolist())
    speech = SpeechConfig(durations, slow_rate=3.0, usual_rate=2.0, fast_rate=1.0, max_prompt=max_prompt, max_text=12)
    return StoredTalker(config, InterleaverConfig(), speech, params, tokenizer, Codec.initialise(CODEC))
