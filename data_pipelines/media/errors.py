"""What is said about a file that cannot be used."""

from data_pipelines.media.sources import Source, source_name

AUDIO = "a complete wav, flac, mp3, ogg, m4a, mp4, webm or mkv file with sound"
IMAGE = "a complete png, jpeg or webp image"
VIDEO = "a complete mp4, webm or mkv file with pictures"
MEDIA = "a complete wav, flac, mp3, ogg, m4a, mp4, webm, mkv, png, jpeg or webp file"


class MediaError(ValueError):
    """A media file is missing, cut short, damaged, or not what is asked for. One line names it and what is accepted."""

    def __init__(self, source: Source, what: str, accepted: str):
        super().__init__(f"{source_name(source)!r} {what}: accepted is {accepted}")
