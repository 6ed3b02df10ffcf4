"""Packing: rows hold whole items, and what comes out is what went in."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from qomni_jax.config.sequence import qomni, qwen3_omni
from qomni_jax.ops.segments import require_segments_in_order
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Text, Turn
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.packing import first_fit, pack, unpack
from tests.sequence.conversations import TOKENIZER, conversations


@settings(max_examples=30)
@given(st.lists(conversations(max_turns=2), min_size=1, max_size=5), st.integers(0, 200), st.booleans())
def test_packed_is_separate(cases, extra, continuous):
    items = [assemble(*case, TOKENIZER, qwen3_omni() if continuous else qomni()) for case in cases]
    length = max(item.num_tokens for item in items) + extra
    rows, members = pack(items, length, pad_token=7)
    assert sorted(number for row in members for number in row) == list(range(len(items)))
    for row, numbers in zip(unpack(rows), members, strict=True):
        for item, number in zip(row, numbers, strict=True):
            for got, expected in zip(item, items[number], strict=True):
                np.testing.assert_array_equal(got, expected)
                assert got.dtype == expected.dtype
    require_segments_in_order(rows.segment_ids, "test")
    padding = rows.kinds == Kind.PADDING
    assert np.all(rows.tokens[padding] == 7)
    assert np.all(rows.loss_weights[padding] == 0)
    assert rows.positions.shape == (3, len(members), length)
    for row, numbers in enumerate(members):
        assert padding[row].sum() == length - sum(items[number].num_tokens for number in numbers)
        for kind in (Kind.AUDIO, Kind.IMAGE, Kind.VIDEO):  # a row's features are those of its members, in order
            here = rows.feature_index[row][rows.kinds[row] == kind]
            assert here.tolist() == list(range(len(here)))


def test_first_fit_fills_earlier_rows_first():
    assert first_fit([6, 5, 4, 5, 1], 10) == [[0, 2], [1, 3], [4]]


def test_an_item_that_is_too_long_is_named_with_its_length():
    item = assemble([Turn("user", (Text("the quick brown fox"),))], [], TOKENIZER, qomni())
    with pytest.raises(ValueError, match=f"item 1 has {item.num_tokens} tokens: accepted is {item.num_tokens - 1}"):
        pack([item._replace(**{f: getattr(item, f)[..., :3] for f in item._fields}), item], item.num_tokens - 1, 0)
