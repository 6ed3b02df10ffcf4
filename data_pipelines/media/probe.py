"""What a media file holds, found out cheaply: from headers and packets, so that a loader can plan before it decodes."""

import dataclasses

from data_pipelines.media.audio import SAMPLE_RATE, num_samples
from data_pipelines.media.containers import IMAGES, audio_stream, media_format, open_media, video_stream
from data_pipelines.media.errors import MEDIA, MediaError
from data_pipelines.media.image import image_size
from data_pipelines.media.sampling import FrameSampling, nearest, sample_times
from data_pipelines.media.sources import Source
from data_pipelines.media.video import frame_size, index_video


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """What the readers give for a file.

    Attributes:
      kind: "audio", "image" or "video"; a video may have sound.
      num_samples: samples at 16 kHz that `read_audio` gives; 0 if there is nothing to hear.
      height: pixels of `read_image` or of a frame, upright.
      width: pixels.
      duration: seconds; of a video, from its first frame to the end of its last.
      num_frames: frames that a video has.
      fps: their average rate.
      frame_times: an even number of seconds, those of the sampled frames; what `video_frames` takes and gives back.
    """

    kind: str
    num_samples: int = 0
    height: int = 0
    width: int = 0
    duration: float = 0.0
    num_frames: int = 0
    fps: float = 0.0
    frame_times: tuple[float, ...] = ()


def probe(source: Source, sampling: FrameSampling | None = None) -> MediaInfo:
    """Finds out what a file holds, by its content. `sampling` (the ancestors' by default) chooses a video's frames.

    Reads an image's headers; counts the packets of sound and pictures. Decoded are only the first frame of a video, and
    sound whose packets do not tell its length (`sample_count` says which). Damage behind the headers is left for the
    readers to find.

    Raises:
      MediaError: the file is missing, empty, no media, cut short, damaged, or without both sound and pictures.
    """
    if media_format(source) in IMAGES:
        height, width = image_size(source)
        return MediaInfo("image", height=height, width=width)
    with open_media(source, MEDIA) as container:
        has_audio, has_video = audio_stream(container) is not None, video_stream(container) is not None
    samples = num_samples(source) if has_audio else 0
    if not has_video:
        if not samples:
            raise MediaError(source, "has neither samples nor pictures", MEDIA)
        return MediaInfo("audio", num_samples=samples, duration=samples / SAMPLE_RATE)
    index = index_video(source)
    height, width = frame_size(source)
    frames = len(index.pts)
    times = index.times[0] + sample_times(index.duration, frames, sampling or FrameSampling())
    return MediaInfo(
        kind="video",
        num_samples=samples,
        height=height,
        width=width,
        duration=index.duration,
        num_frames=frames,
        fps=frames / index.duration if index.duration else 0.0,
        frame_times=tuple(index.times[nearest(index.times, times)].tolist()),
    )
