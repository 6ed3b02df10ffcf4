"""Frames of mp4, webm and mkv videos with their own times, one at a time, whatever the frame rate does."""

import array
from collections.abc import Generator, Sequence
import dataclasses

from av import Packet, VideoFrame
import numpy as np

from data_pipelines.media.containers import clock_start, open_media, require_video, select, tick
from data_pipelines.media.errors import VIDEO, MediaError
from data_pipelines.media.sampling import nearest
from data_pipelines.media.sources import Source, source_name


@dataclasses.dataclass(frozen=True)
class VideoIndex:
    """The frames of a video track, from its packets: nothing decoded, 32 bytes a frame.

    Attributes:
      pts: presentation times in ticks of the track's clock, ascending, int64 `[frames]`.
      times: the same in seconds after the file's first track starts, float64 `[frames]`.
      duration: seconds from the first frame to the end of the last.
      keys: for each frame, the (pts, dts) of the last frame before or at it that decoding can start with,
        int64 `[frames, 2]`.
    """

    pts: np.ndarray
    times: np.ndarray
    duration: float
    keys: np.ndarray


def index_video(source: Source) -> VideoIndex:
    """Finds the frames of a file's first video track by demuxing.

    Raises:
      MediaError: the file is missing, empty, no media, cut short, damaged, or has no video track or no frame in it.
    """
    with open_media(source, VIDEO) as container:
        stream = require_video(source, container)
        select(container, stream)
        pts, keys = array.array("q"), []
        last_pts, last_duration = None, None
        for packet in container.demux(stream):
            if not packet.size or packet.pts is None or packet.is_discard or _is_hidden(packet):
                continue
            pts.append(packet.pts)
            if last_pts is None or packet.pts > last_pts:
                last_pts, last_duration = packet.pts, packet.duration
            if packet.is_keyframe:
                keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
        if not keys:
            raise MediaError(source, "has no frames", VIDEO)
        starts = np.array(sorted(keys), np.int64)
        ticks = np.unique(np.frombuffer(pts, np.int64))
        # What comes before the first key frame cannot be decoded: the video was cut there.
        ticks = ticks[np.searchsorted(ticks, starts[0, 0]) :]
        seconds = float(tick(stream))
        # webm does not state how long its last frame is shown: as long as the average frame.
        last = last_duration or np.ptp(ticks) / max(len(ticks) - 1, 1)
        return VideoIndex(
            pts=ticks,
            times=ticks * seconds - clock_start(container),
            duration=(float(ticks[-1] - ticks[0]) + last) * seconds,
            keys=starts[np.searchsorted(starts[:, 0], ticks, side="right") - 1],
        )


def video_frames(source: Source, times: Sequence[float] | np.ndarray) -> Generator[tuple[float, np.ndarray]]:
    """The frames nearest to `times`, as (seconds, uint8 RGB `[height, width, 3]`), upright, one at a time.

    `times` and the seconds given back, which are the frames' own, count from the start of the file's first track.
    `probe` gives the times to look at. A time that is nearest to the same frame as the one before gives it again.
    Between far frames the file is searched for a key frame instead of decoded, so the cost is that of the frames asked
    for.

    Raises:
      ValueError: times that descend.
      MediaError: as `index_video`; a frame that cannot be decoded; another frame size than the first's.
    """
    times = np.asarray(times, np.float64)
    if (np.diff(times) < 0).any():
        raise ValueError(f"times of the frames of {source_name(source)!r}: accepted is times in ascending order")
    index = index_video(source)
    with open_media(source, VIDEO) as container:
        stream = require_video(source, container)
        select(container, stream)
        decoded, frame, image, shape = container.decode(stream), None, np.empty(0), None
        for number in nearest(index.times, times):
            wanted = index.pts[number]
            if frame is None or frame.pts != wanted:
                key, key_dts = index.keys[number]
                if key > (index.pts[0] if frame is None else frame.pts):
                    container.seek(int(key_dts), stream=stream)
                    decoded = container.decode(stream)
                frame = next((frame for frame in decoded if frame.pts is not None and frame.pts >= wanted), None)
                if frame is None or frame.pts != wanted or frame.is_corrupt:
                    raise MediaError(source, f"is damaged, its frame at {index.times[number]:.3f} s is lost", VIDEO)
                image = _upright(frame)
                shape = shape or image.shape
                if image.shape != shape:
                    raise MediaError(source, f"changes its frame size from {shape[:2]} to {image.shape[:2]}", VIDEO)
            yield float(index.times[number]), image


def frame_size(source: Source) -> tuple[int, int]:
    """(height, width) of the upright frames. Decodes the first frame, which alone tells how it is turned.

    Raises:
      MediaError: as `video_frames`.
    """
    with open_media(source, VIDEO) as container:
        stream = require_video(source, container)
        select(container, stream)
        frame = next(container.decode(stream), None)
        if frame is None:
            raise MediaError(source, "has no frames", VIDEO)
        return (frame.width, frame.height) if _quarter_turns(frame) % 2 else (frame.height, frame.width)


def _is_hidden(packet: Packet) -> bool:
    """Whether a packet's frame is only there to predict others: VP8 clears bit 4 of its first byte (RFC 6386, 9.1)."""
    return packet.stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


def _quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that turn the frame upright; other angles are rounded to these."""
    return round(frame.rotation / 90.0) % 4


def _upright(frame: VideoFrame) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame)))
