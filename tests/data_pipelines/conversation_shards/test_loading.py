"""Examples of shards are those of the files, in any order, in any process, and again after a restart."""

import numpy as np
import pytest

from data_pipelines.conversation_shards.loading import Examples, training_examples
from data_pipelines.conversations import ReadingConfig, read_conversation
from qomni_jax.sequence.chat import Turn
from qomni_jax.sizes import audio_encoder_tiny
from tests.sequence.conversations import TOKENIZER

READING = ReadingConfig(audio_encoder_tiny())


def leaves(value):
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in leaves(item)]
    return [np.asarray(value)]


def equal(one, two):
    ones, twos = leaves(one), leaves(two)
    return len(ones) == len(twos) and all(np.array_equal(a, b) for a, b in zip(ones, twos, strict=True))


def on_disk(source, turns):
    """The same turns with paths for sources."""

    def moved(part):
        return (
            type(part)(**{**vars(part), "source": source.parent / part.source.name}) if "source" in vars(part) else part
        )

    return [Turn(turn.role, tuple(map(moved, turn.content)), turn.tool_calls) for turn in turns]


def test_an_example_is_that_of_the_files(source, dataset):
    records = dataset.split("train")
    examples = Examples(records, TOKENIZER, READING)
    assert len(examples) == len(records)
    for record, example in zip(records, examples, strict=True):
        assert equal(example, read_conversation(on_disk(source, record.turns), TOKENIZER, READING))
    assert equal(examples[2], list(examples[1:])[1])


def test_a_stream_is_shuffled_complete_and_resumes_and_workers_do_not_change_it(dataset):
    records = dataset.split("train")
    options = {"seed": 5, "epochs": 2}
    here = training_examples(records, TOKENIZER, READING, **options)
    first = [next(here) for _ in range(4)]
    state = here.get_state()
    expected = [*first, *here]
    assert len(expected) == 12
    lengths = [example.sequence.num_tokens for example in expected]
    assert sorted(lengths[:6]) == sorted(lengths[6:])
    assert lengths[:6] != lengths[6:]
    here.set_state(state)
    assert all(equal(*pair) for pair in zip(here, expected[4:], strict=True))
    workers = training_examples(records, TOKENIZER, READING, **options, num_workers=1)
    found = list(workers)
    workers.close()
    assert all(equal(*pair) for pair in zip(found, expected, strict=True))
    assert type(found[0]) is type(expected[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"seed": -1}, "seed = -1"), ({"seed": 0, "epochs": 0}, "epochs = 0: accepted is a number")],
)
def test_numbers_that_are_not_accepted(dataset, options, message):
    with pytest.raises(ValueError, match=message):
        training_examples(dataset.split("train"), TOKENIZER, READING, **options)
