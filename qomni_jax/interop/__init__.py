"""Released checkpoints in and out: Qwen3.5 (dense, experts, MTP heads, vision), Qwen3-Next, Qwen3-Omni, codecs.

`open_thinker`, `open_language_model`, `open_talker` and `open_codec` read a released directory or one of ours, of that
part or of a model that holds it; `open_audio_encoder` and `open_vision_encoder` do, but for encoders of ours alone;
`open_qwen3_omni` reads the whole model that speaks; `python -m qomni_jax.interop --help` lists the commands. Weights
are read and written a block at a time: the host holds the destination and a few megabytes.
"""

from qomni_jax.interop.codec_model import open_codec
from qomni_jax.interop.encoder_model import open_audio_encoder, open_vision_encoder
from qomni_jax.interop.model import open_language_model
from qomni_jax.interop.save import export, export_thinker
from qomni_jax.interop.storage import Description, save
from qomni_jax.interop.talker_model import open_qwen3_omni, open_talker
from qomni_jax.interop.thinker_model import open_thinker
from qomni_jax.storage.errors import CheckpointError

__all__ = [
    "CheckpointError",
    "Description",
    "export",
    "export_thinker",
    "open_audio_encoder",
    "open_codec",
    "open_language_model",
    "open_qwen3_omni",
    "open_talker",
    "open_thinker",
    "open_vision_encoder",
    "save",
]
