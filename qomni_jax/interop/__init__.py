"""Released checkpoints in and out: Qwen3.5 (dense, mixture of experts, their MTP heads) and Qwen3-Next.

`open_language_model` reads a released directory or our own checkpoint, `open_audio_encoder`, `open_vision_encoder` and
`open_codec` a released one of an encoder or a codec, or of a model that holds it; `python -m qomni_jax.interop --help`
lists the commands. Weights are read and written a block at a time: the host holds the destination and a few megabytes.
"""

from qomni_jax.interop.codec_model import open_codec
from qomni_jax.interop.encoder_model import open_audio_encoder, open_vision_encoder
from qomni_jax.interop.errors import CheckpointError
from qomni_jax.interop.model import open_language_model
from qomni_jax.interop.save import export
from qomni_jax.interop.storage import Description, save

__all__ = [
    "CheckpointError",
    "Description",
    "export",
    "open_audio_encoder",
    "open_codec",
    "open_language_model",
    "open_vision_encoder",
    "save",
]
