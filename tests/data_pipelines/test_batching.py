"""Bucketed batches: every example at most once an epoch, within its boundary, and the same again after a restart."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from data_pipelines.batching import BucketedBatches, make_loader

LENGTHS = np.random.default_rng(0).integers(1, 100, size=203)
BOUNDARIES = (20, 50, 100)


class Numbers:
    """A picklable source whose record is its index."""

    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, index):
        return index


def collate(records, pad_length, batch_index):
    return {"records": np.array(records), "pad_length": np.array(pad_length), "index": np.array(batch_index)}


def loader(num_workers, start_batch=0):
    return make_loader(Numbers(), collate, BucketedBatches(LENGTHS, 8, BOUNDARIES, seed=3), num_workers, start_batch)


def take(iterator, count):
    return [{name: value.tolist() for name, value in next(iterator).items()} for _ in range(count)]


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=7, max_size=300),
    batch_size=st.integers(1, 7),
    boundaries=st.sets(st.integers(1, 59), max_size=4),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 5),
)
def test_an_epoch_visits_each_example_at_most_once_and_misses_less_than_a_batch(
    lengths, batch_size, boundaries, seed, epoch
):
    boundaries = (*sorted(boundaries), 60)
    batches = BucketedBatches(np.array(lengths), batch_size, boundaries, seed)
    count = batches.batches_per_epoch
    items = [batches[index] for index in range(epoch * count, (epoch + 1) * count)]
    visited = np.concatenate([indices for indices, _ in items])
    assert len(set(visited.tolist())) == len(visited) > len(lengths) - batch_size
    for indices, pad_length in items:
        assert indices.shape == (batch_size,)
        assert pad_length in boundaries
        assert max(lengths[index] for index in indices) <= pad_length


def test_a_batch_is_of_one_bucket_but_for_what_the_shorter_ones_left_over():
    batches = BucketedBatches(LENGTHS, 8, BOUNDARIES, seed=0)
    edges = (0, *BOUNDARIES)
    mixed = 0
    for index in range(batches.batches_per_epoch):
        indices, pad_length = batches[index]
        mixed += LENGTHS[indices].min() <= edges[BOUNDARIES.index(pad_length)]
    assert mixed <= len(BOUNDARIES) - 1


def test_batches_are_a_function_of_seed_and_index_and_epochs_differ():
    one, two = (BucketedBatches(LENGTHS, 8, BOUNDARIES, seed=5) for _ in range(2))
    later = 3 * one.batches_per_epoch + 4
    np.testing.assert_array_equal(one[later][0], [two[0], two[later]][1][0])
    other = BucketedBatches(LENGTHS, 8, BOUNDARIES, seed=6)
    epoch = [[tuple(b[i][0]) for i in range(b.batches_per_epoch)] for b in (one, other)]
    second = [tuple(one[i + one.batches_per_epoch][0]) for i in range(one.batches_per_epoch)]
    assert epoch[0] != epoch[1]
    assert epoch[0] != second


def test_any_number_of_workers_gives_the_same_batches_and_resumes_within_an_epoch():
    here = loader(0)
    expected = take(here, 40)
    assert [batch["index"] for batch in expected] == list(range(40))
    state = None
    workers = loader(2)
    got = take(workers, 11)
    state = workers.get_state()
    got += take(workers, 29)
    assert got == expected
    workers.set_state(state)
    assert take(workers, 5) == expected[11:16]
    workers.close()
    fresh = loader(0)
    here.set_state({"next_index": 0})
    take(here, 17)
    fresh.set_state(here.get_state())
    assert take(fresh, 23) == expected[17:]
    assert take(loader(0, start_batch=30), 10) == expected[30:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": 500}, "at least batch_size = 500"),
        ({"boundaries": (50, 20)}, r"boundaries = \(50, 20\): accepted is one number or more, increasing"),
        ({"boundaries": ()}, "one number or more"),
        ({"boundaries": (20, 50)}, "boundaries end at 50: accepted is 99, the longest, or more"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_unusable_batches_are_an_error(changes, message):
    with pytest.raises(ValueError, match=message):
        BucketedBatches(**{"lengths": LENGTHS, "batch_size": 8, "boundaries": BOUNDARIES, "seed": 0, **changes})
    with pytest.raises(ValueError, match="num_workers = -1: accepted is 0 or more"):
        loader(-1)
