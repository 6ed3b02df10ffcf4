"""The merge of video and sound: by time, video first on ties, and the same in whatever pieces they come."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from qomni_jax.sequence.interleave import AudioRun, AudioVideoMerge, Patch, merge

ATS = st.lists(st.one_of(st.integers(0, 30), st.floats(0, 30, width=32)), max_size=8).map(sorted)


def in_order(merged) -> list[tuple[str, int]]:
    """Every token by itself."""
    order: list[tuple[str, int]] = []
    for piece in merged:
        if isinstance(piece, Patch):
            order.append(("video", piece.number))
        else:
            order += [("audio", i) for i in range(piece.first, piece.first + piece.size)]
    return order


def one_by_one(audio_tokens: int, ats: list[float]) -> list[tuple[str, int]]:
    """The ancestor's rule, token by token."""
    order: list[tuple[str, int]] = []
    audio = video = 0
    while audio < audio_tokens or video < len(ats):
        if video < len(ats) and (audio == audio_tokens or ats[video] <= audio):
            order.append(("video", video))
            video += 1
        else:
            order.append(("audio", audio))
            audio += 1
    return order


@settings(max_examples=30)
@given(st.integers(0, 40), ATS)
def test_the_whole_is_merged_by_time_and_video_is_first_on_ties(audio_tokens, ats):
    merged = merge(audio_tokens, ats)
    assert in_order(merged) == one_by_one(audio_tokens, ats)
    assert not any(isinstance(a, AudioRun) and isinstance(b, AudioRun) for a, b in itertools.pairwise(merged))


@settings(max_examples=30)
@given(st.integers(0, 40), ATS, st.data())
def test_any_pieces_give_the_order_of_the_whole(audio_tokens, ats, data):
    stream = AudioVideoMerge()
    got, heard, seen = [], 0, 0
    while heard < audio_tokens or seen < len(ats):
        action = data.draw(st.sampled_from(["audio", "video", "clock"]))
        if action == "audio":
            count = data.draw(st.integers(min(1, audio_tokens - heard), audio_tokens - heard))
            got += stream.audio(count)
            heard += count
        elif action == "video":
            count = data.draw(st.integers(min(1, len(ats) - seen), len(ats) - seen))
            got += stream.video(ats[seen : seen + count])
            seen += count
        elif seen < len(ats):
            got += stream.no_patch_before(data.draw(st.floats(0, float(ats[seen]))))
        assert in_order(got) == one_by_one(audio_tokens, ats)[: len(in_order(got))]
    ends = [stream.end_audio, stream.end_video]
    for end in ends if data.draw(st.booleans()) else reversed(ends):
        got += end()
    assert in_order(got) == one_by_one(audio_tokens, ats)


def test_nothing_waits_longer_than_it_must():
    stream = AudioVideoMerge()
    assert stream.audio(3) == []  # a patch at 0 may still come
    assert stream.video([1.0]) == [AudioRun(0, 1), Patch(0, 1.0)]  # a second patch at 1 may still come
    assert stream.no_patch_before(6.0) == [AudioRun(1, 2)]
    assert stream.video([6.5]) == []  # audio 3 to 6 stand before it
    assert stream.audio(3) == [AudioRun(3, 3)]
    assert stream.audio(2) == [AudioRun(6, 1), Patch(1, 6.5)]
    assert stream.end_video() == [AudioRun(7, 1)]
