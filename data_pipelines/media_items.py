"""Media items of conversations beside what their sources hold: what is called an image is one, what is heard sounds."""

from data_pipelines.media.audio import audio_blocks
from data_pipelines.media.errors import AUDIO, IMAGE, VIDEO, MediaError
from data_pipelines.media.image import read_image
from data_pipelines.media.probe import MediaInfo, probe
from data_pipelines.media.sampling import FrameSampling
from data_pipelines.media.video import video_frames
from qomni_jax.sequence.chat import Audio, Image, Media, Video


def is_heard(item: Media) -> bool:
    """Whether the sound of an item is part of the conversation."""
    return isinstance(item, Audio) or (isinstance(item, Video) and item.sound)


def probe_item(item: Media, sampling: FrameSampling | None = None) -> MediaInfo:
    """`probe` of an item's source. Raises MediaError if it is not what the item says, or has no sound to be heard."""
    info = probe(item.source, sampling)
    for kind, of_kind, accepted in ((Image, "image", IMAGE), (Video, "video", VIDEO)):
        if isinstance(item, kind) and info.kind != of_kind:
            article = "an" if info.kind[0] in "aeiou" else "a"
            raise MediaError(item.source, f"is {article} {info.kind} file", accepted)
    if is_heard(item) and not info.num_samples:
        raise MediaError(item.source, "is an image file" if info.kind == "image" else "has no sound", AUDIO)
    return info


def check_item(item: Media) -> None:
    """Decodes an item, a video's frames by the default sampling. Raises MediaError as `probe_item`, or for damage."""
    info = probe_item(item)
    if isinstance(item, Image):
        read_image(item.source)
    if isinstance(item, Video):
        for _ in video_frames(item.source, info.frame_times):
            pass
    if is_heard(item):
        for _ in audio_blocks(item.source):
            pass
