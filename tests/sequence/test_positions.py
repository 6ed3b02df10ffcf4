"""Position rules: equal to the ancestors' goldens, monotone, true to time, and the same whole or in pieces."""

import itertools
import pathlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from safetensors.numpy import load_file

from qomni_jax.config.sequence import qwen3_5, qwen3_omni
from qomni_jax.sequence.assembly import assemble, assemble_elements
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.elements import Kind, Slots, Words
from qomni_jax.sequence.layout import lay_out_media
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, VideoSize
from qomni_jax.sequence.positions import ContinuousPositions, GridPositions, PlainPositions, position_rule, rope_delta
from qomni_jax.sequence.timestamps import regular_patch_times
from tests.sequence.conversations import CONFIGS, TOKENIZER, conversations

GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"


class GoldenTokenizer:
    """The ids of the goldens: `w7` is 7, `<2.0 seconds>` is 22, 21."""

    vocab_size = 512

    def __init__(self, **special: int):
        self._special = special

    def special(self, token: str) -> int:
        return self._special[token]

    def encode_text(self, text: str) -> np.ndarray:
        ids = []
        for word in re.findall(r"<\d\.0 seconds>|w\d+|\w+|\n", text):
            if word.startswith("<"):
                ids += [20 + int(word[1]), 21]
            elif word.startswith("w"):
                ids.append(int(word[1:]))
            else:
                ids.append({"system": 412, "user": 413, "assistant": 414, "\n": 415}[word])
        return np.array(ids, np.int32)


QWEN3_5 = GoldenTokenizer(
    **{"<|vision_start|>": 502, "<|vision_end|>": 503, "<|image_pad|>": 500, "<|video_pad|>": 501}
)
QWEN3_OMNI = GoldenTokenizer(
    **{"<|im_start|>": 410, "<|im_end|>": 411, "<|audio_pad|>": 400, "<|image_pad|>": 401, "<|video_pad|>": 402},
    **{"<|vision_start|>": 403, "<|vision_end|>": 404, "<|audio_start|>": 405, "<|audio_end|>": 406},
)


def golden(name: str) -> dict[str, np.ndarray]:
    return load_file(GOLDENS / name / "positions.safetensors")


def test_prompt_and_positions_are_those_of_qwen3_5():
    expected, config = golden("qwen3_5_moe_vl"), qwen3_5()
    elements = [
        Words("w1w2w3w4w5"),
        *lay_out_media(ImageSize(tuple(expected["image_grid_thw"][0].tolist())), config),
        Words("w7w8w9"),
        *lay_out_media(VideoSize(tuple(expected["video_grid_thw"][0].tolist()), (0.0, 1.0, 2.0)), config),
        Words("w30w31w32"),
    ]
    sequence = assemble_elements(elements, QWEN3_5, config)
    np.testing.assert_array_equal(sequence.tokens, expected["input_ids"][0])
    np.testing.assert_array_equal(sequence.positions, expected["position_ids"][:, 0])
    assert sequence.positions.dtype == np.int32
    assert rope_delta(sequence.positions) == expected["rope_deltas"].item()


def omni_video(expected: dict[str, np.ndarray], audio_tokens: int | None = None) -> VideoSize:
    grid = tuple(expected["video_grid_thw"][0].tolist())
    times = regular_patch_times(grid[0], expected["video_second_per_grid"].item())
    return VideoSize(grid, tuple(times.tolist()), audio_tokens)


def test_prompt_and_positions_are_those_of_qwen3_omni():
    expected = golden("qwen3_omni_thinker")
    conversation = [
        Turn("system", (Text("w1w2"),)),
        Turn("user", (Audio(), Image(), Video(), Text("w5w6w7"))),
    ]
    sizes = [AudioSize(27), ImageSize(tuple(expected["image_grid_thw"][0].tolist())), omni_video(expected)]
    sequence = assemble(conversation, sizes, QWEN3_OMNI, qwen3_omni(), reply=True)
    np.testing.assert_array_equal(sequence.tokens, expected["input_ids"][0])
    np.testing.assert_array_equal(sequence.positions, expected["position_ids"][:, 0])
    assert sequence.positions.dtype == np.float32
    assert rope_delta(sequence.positions) == expected["rope_deltas"].item()


def test_audio_in_video_is_that_of_qwen3_omni():
    expected = golden("qwen3_omni_thinker")
    elements = [Words("w1w2"), *lay_out_media(omni_video(expected, 27), qwen3_omni()), Words("w3w4")]
    sequence = assemble_elements(elements, QWEN3_OMNI, qwen3_omni())
    # The golden's ids are not merged (its positions are): both tokens of the start, of the end, and as many of each.
    ids = expected["aiv_input_ids"][0]
    np.testing.assert_array_equal(sequence.tokens[[*range(4), *range(-4, 0)]], ids[[*range(4), *range(-4, 0)]])
    np.testing.assert_array_equal(np.sort(sequence.tokens), np.sort(ids))
    np.testing.assert_array_equal(sequence.positions, expected["aiv_position_ids"][:, 0])
    assert rope_delta(sequence.positions) == expected["aiv_rope_deltas"].item()


def test_fractions_stay_fractions_and_the_next_id_follows_the_last_piece():
    rule = ContinuousPositions()
    rule.text(2)
    rule.begin_item()
    assert rule.slots(Slots(Kind.VIDEO, 8, 0.0, 1, 8))[2].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert rule.slots(Slots(Kind.VIDEO, 1, 1.5, 1, 1))[:, 0].tolist() == [3.5, 2, 2]
    assert rule.slots(Slots(Kind.AUDIO, 2, 2))[0].tolist() == [4, 5]
    rule.end_item()
    assert rule.text(1)[0].tolist() == [6]  # one after the audio, although a column of the video was 9


def test_positions_of_the_grid_by_hand():
    rule = GridPositions()
    assert rule.text(3)[0].tolist() == [0, 1, 2]
    rule.begin_item()
    patch = Slots(Kind.VIDEO, 4, 1, 2, 2)
    assert rule.slots(patch).tolist() == [[4, 4, 4, 4], [4, 4, 5, 5], [4, 5, 4, 5]]  # a cell after the start
    assert rule.slots(Slots(Kind.AUDIO, 3, 1)).tolist() == [[4, 5, 6]] * 3  # the same cell, the same id
    assert rule.text(1, at=3)[0].tolist() == [7]  # closes the patch
    assert rule.text(2, at=7)[0].tolist() == [11, 12]  # 3 + cell 7 + one token of text
    assert rule.slots(patch._replace(at=7))[0].tolist() == [13] * 4  # 3 + cell 7 + three tokens of text
    assert rule.slots(Slots(Kind.AUDIO, 1, 7))[0].tolist() == [13]
    rule.end_item()
    assert rule.text(1)[0].tolist() == [15]  # after the last column, 14


def test_patches_of_one_cell_do_not_collide_with_the_text_between_them():
    rule = GridPositions()
    rule.begin_item()
    patch = Slots(Kind.VIDEO, 1, 5, 1, 1)
    ids = [rule.slots(patch), rule.text(2, at=5), rule.slots(patch), rule.slots(Slots(Kind.AUDIO, 2, 5))]
    assert [i[0].tolist() for i in ids] == [[5], [6, 7], [8], [8, 9]]


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=15)
@given(case=conversations(), seed=st.integers(0, 9))
def test_time_never_runs_backwards(name, case, seed):
    config = CONFIGS[name]
    sequence = assemble(*case, TOKENIZER, config, rng=np.random.default_rng(seed))
    time = sequence.positions[0]
    assert time[0] == 0
    assert np.all(np.diff(time) >= 0)
    text = sequence.kinds == Kind.TEXT
    assert np.all(np.diff(time[text]) > 0)
    assert np.all(np.diff(time, prepend=-1)[text] > 0)  # text never shares an id with what comes before it
    assert np.all(sequence.positions[:, text] == time[text])
    audio = sequence.kinds == Kind.AUDIO
    assert np.all(np.diff(time[audio]) > 0)
    assert np.all(sequence.positions >= 0)
    if config.temporal_ids == "grid":
        assert sequence.positions[:, -1].max() == sequence.positions.max()  # the last text is above all ids


@pytest.mark.parametrize("name", ["qomni", "qomni, tmrope alone"])
@settings(max_examples=30)
@given(st.lists(st.floats(0.17, 3.0), min_size=2, max_size=6), st.integers(1, 60))
def test_between_two_features_lie_the_cells_and_the_text_between_them(name, gaps, audio_tokens):
    config, times = CONFIGS[name], tuple(np.cumsum(gaps).tolist())
    elements = lay_out_media(VideoSize((len(times), 2, 4), times, audio_tokens), config)
    sequence = assemble_elements([Words("see"), *elements, Words("end")], TOKENIZER, config)
    item = np.flatnonzero(sequence.kinds != Kind.TEXT)
    inside = slice(item[0], item[-1] + 1)
    kinds, index = sequence.kinds[inside], sequence.feature_index[inside]
    video_cells = np.floor(np.array(times) * 6.25 + 1e-6)
    cells = np.where(kinds == Kind.AUDIO, index, video_cells[np.where(kinds == Kind.VIDEO, index // 2, 0)])
    text_before = np.cumsum(kinds == Kind.TEXT)
    origin = sequence.positions[0, item[0] - 1] + 1
    media = kinds != Kind.TEXT
    np.testing.assert_array_equal(
        sequence.positions[0, inside][media], (origin + cells + text_before)[media].astype(np.int32)
    )
    assert (text_before[-1] == 0) == (name == "qomni, tmrope alone")


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=10)
@given(st.integers(1, 50), st.lists(st.integers(0, 50), max_size=4))
def test_audio_in_pieces_has_the_positions_of_the_whole(name, count, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    whole, pieces = position_rule(CONFIGS[name]), position_rule(CONFIGS[name])
    for rule in (whole, pieces):
        rule.text(5)
        rule.begin_item()
    parts = [pieces.slots(Slots(Kind.AUDIO, b - a, a)) for a, b in itertools.pairwise(edges) if b > a]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole.slots(Slots(Kind.AUDIO, count, 0)))
    for rule in (whole, pieces):
        rule.end_item()
    np.testing.assert_array_equal(whole.text(2), pieces.text(2))


def test_each_config_has_its_rule():
    rules = {name: type(position_rule(config)) for name, config in CONFIGS.items()}
    assert rules == {
        "qomni": GridPositions,
        "qwen3_5": PlainPositions,
        "qwen3_omni": ContinuousPositions,
        "qomni, timestamps alone": PlainPositions,
        "qomni, tmrope alone": GridPositions,
        "qomni, short intervals": GridPositions,
    }
