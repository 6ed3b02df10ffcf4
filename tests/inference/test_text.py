"""Greedy text: rows of any length, prefill in chunks, stop tokens; guessing ahead says the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.inference.speculative import SpeculativeGenerator
from qomni_jax.inference.text import TextGenerator
from qomni_jax.layers.language_model import LanguageModel, init_language_model, unstack_language_model
from qomni_jax.layers.linear import unbox
from qomni_jax.sizes import language_model_tiny

VOCABULARY = 6  # few tokens, so that a head that knows nothing guesses right now and then
NEW = 24


@pytest.fixture(scope="module")
def model():
    """The unstacked twin of a tiny model, with logits spread so that argmax is not a matter of rounding."""
    return unstack_language_model(*stacked_model())


def stacked_model():
    config = language_model_tiny(VOCABULARY)
    decoder = dataclasses.replace(config.decoder, periods=1, pattern=("gdn", "gdn", "attention"))
    config = dataclasses.replace(config, decoder=decoder)
    params = unbox(jax.jit(lambda key: init_language_model(config, key))(jax.random.key(3)))
    params["lm_head"] = jax.tree.map(lambda x: 8 * x, params["lm_head"])
    return config, params


def prompts() -> list[list[int]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, VOCABULARY, size).tolist() for size in (1, 9, 5, 14)]


@pytest.fixture(scope="module")
def answers(model):
    """What the model says when the whole row is read anew for every token."""
    config, params = model
    apply = jax.jit(lambda p, t: LanguageModel(config).apply({"params": p}, t).logits)
    rows = np.zeros((len(prompts()), 14 + NEW), np.int32)
    ends = np.array([len(p) for p in prompts()])
    for row, prompt in zip(rows, prompts(), strict=True):
        row[: len(prompt)] = prompt
    for step in range(NEW):
        logits = apply(params, jnp.asarray(rows))
        for b, end in enumerate(ends + step):
            rows[b, end] = int(np.argmax(logits[b, end - 1]))
    return [row[end : end + NEW].tolist() for row, end in zip(rows, ends, strict=True)]


@pytest.mark.parametrize("chunk", [4, 64])
def test_cached_generation_equals_reading_the_row_anew(model, answers, chunk):
    generator = TextGenerator(*model, capacity=40, prefill_chunk=chunk)
    assert generator.generate(prompts(), NEW) == answers


def test_a_row_says_the_same_alone(model, answers):
    generator = TextGenerator(*model, capacity=40)
    assert generator.generate(prompts()[2:3], NEW) == answers[2:3]


@pytest.mark.parametrize("drafts", [1, 3])
def test_guessing_ahead_says_the_same_in_fewer_calls(model, answers, drafts):
    generator = SpeculativeGenerator(*model, capacity=40, prefill_chunk=4, drafts=drafts)
    assert generator.generate(prompts(), NEW) == answers
    # Some guesses were taken and some were not, so that states went back to every kind of place.
    assert 0 < generator.last.accepted < drafts * generator.last.rows
    assert generator.last.rounds < NEW


def test_stop_tokens_end_their_rows_alone(model, answers):
    stop = answers[1][6]
    expected = [row[: row.index(stop) + 1] if stop in row else row for row in answers]
    assert len({len(row) for row in expected}) > 1
    for generator in (
        TextGenerator(*model, capacity=40, stop_tokens=(stop,)),
        SpeculativeGenerator(*model, capacity=40, stop_tokens=(stop,), drafts=3),
    ):
        assert generator.generate(prompts(), NEW) == expected


def test_a_stacked_model_goes_back_as_well(answers):
    generator = SpeculativeGenerator(*stacked_model(), capacity=40, drafts=2)
    assert generator.generate(prompts()[1:3], NEW) == answers[1:3]


def test_what_does_not_fit_is_named(model):
    generator = TextGenerator(*model, capacity=16)
    with pytest.raises(ValueError, match="10 new tokens after a prompt of 14"):
        generator.generate(prompts(), 10)
    with pytest.raises(ValueError, match=r"prompts of \[3, 0\] tokens"):
        generator.prefill([[1, 2, 3], []])
    config, params = model
    with pytest.raises(ValueError, match="num_mtp_layers = 0"):
        SpeculativeGenerator(dataclasses.replace(config, num_mtp_layers=0), params, capacity=16)
    with pytest.raises(ValueError, match="drafts 0"):
        SpeculativeGenerator(config, params, capacity=16, drafts=0)
