"""Text: rows of any length, prefill in chunks, stop tokens; guessing ahead says the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.speculative import SpeculativeGenerator
from qomni_jax.inference.text import TextGenerator
from qomni_jax.layers.language_model import LanguageModel, init_language_model, unstack_language_model
from qomni_jax.layers.linear import unbox
from qomni_jax.ops.sampling import penalize_repetition
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


def test_drawn_rows_say_the_same_alone_and_other_keys_say_otherwise(model):
    sampling = SamplingConfig(temperature=1.5, top_k=5, top_p=0.95, seed=4)
    generator = TextGenerator(*model, capacity=40, sampling=sampling)
    together = generator.generate(prompts(), NEW, keys=[7, 8, 9, 10])
    assert generator.generate(prompts()[2:3], NEW, keys=[9]) == together[2:3]
    assert list(generator.stream(prompts()[2], NEW, key=9)) == together[2]
    assert generator.generate(prompts()[2:3], NEW, keys=[10]) != together[2:3]


def test_the_penalty_sees_the_prompt_and_all_that_was_said(model):
    config, params = model
    prompt = prompts()[2]
    generator = TextGenerator(config, params, capacity=40, sampling=SamplingConfig(repetition_penalty=3.0))
    row = prompt + generator.generate([prompt], 6)[0]
    logits = jax.jit(lambda p, t: LanguageModel(config).apply({"params": p}, t).logits)(params, jnp.asarray([row]))
    for end in range(len(prompt), len(row)):
        said = np.isin(np.arange(VOCABULARY), row[:end])
        assert row[end] == int(np.argmax(penalize_repetition(logits[0, end - 1], said, 3.0)))


@pytest.mark.parametrize("drafts", [1, 3])
def test_guessing_ahead_says_the_same_in_fewer_calls(model, answers, drafts):
    generator = SpeculativeGenerator(*model, capacity=40, prefill_chunk=4, drafts=drafts)
    assert generator.generate(prompts(), NEW) == answers
    # Some guesses were taken and some were not, so that states went back to every kind of place.
    assert 0 < generator.last.accepted < drafts * generator.last.rows
    assert generator.last.rounds < NEW


def certain(model):
    """The model with logits that are a function of the last token alone, and a head that knows it.

    The mixers and experts write nothing into the residual stream, so that the head, whose parts read the embedding
    alone, says what the model says: every guess is right.
    """
    config, params = model
    dim = config.decoder.model_dim

    def silent(path, leaf):
        last = path[-2].key if path[-1].key == "kernel" else path[-1].key
        return 0 * leaf if last in ("o_proj", "out_proj", "down_proj", "experts_down_proj") else leaf

    params = jax.tree_util.tree_map_with_path(silent, params)
    copied = jnp.concatenate([jnp.eye(dim), jnp.zeros((dim, dim))])
    mtp = {**params["mtp"], "fc": {"kernel": copied}}
    return config, {**params, "mtp": mtp}


@pytest.mark.parametrize("drafts", [1, 5])
def test_every_guess_is_taken_from_a_head_that_knows(model, drafts):
    known = certain(model)
    generator = SpeculativeGenerator(*known, capacity=40, drafts=drafts)
    assert generator.generate(prompts(), NEW) == TextGenerator(*known, capacity=40).generate(prompts(), NEW)
    assert generator.last.accepted == drafts * generator.last.rows > 0
    assert generator.last.rounds == -(-(NEW - 1) // (drafts + 1))


@pytest.mark.parametrize("drafts", [1, 4])
def test_no_guess_is_taken_from_a_head_that_is_always_wrong(model, drafts):
    config, params = certain(model)
    # The head sees its embedding negated: it says what the model finds least likely.
    mtp = {**params["mtp"], "fc": {"kernel": -params["mtp"]["fc"]["kernel"]}}
    wrong = (config, {**params, "mtp": mtp})
    generator = SpeculativeGenerator(*wrong, capacity=40, drafts=drafts)
    assert generator.generate(prompts(), NEW) == TextGenerator(*wrong, capacity=40).generate(prompts(), NEW)
    assert generator.last.accepted == 0
    assert generator.last.rounds == NEW - 1


def test_rows_of_a_batch_take_different_numbers_of_guesses(model, answers):
    alone = []
    for prompt in prompts():
        generator = SpeculativeGenerator(*model, capacity=40, prefill_chunk=4, drafts=3)
        generator.generate([prompt], NEW)
        alone.append(generator.last)
    assert len({row.rounds for row in alone}) > 1
    together = SpeculativeGenerator(*model, capacity=40, prefill_chunk=4, drafts=3)
    assert together.generate(prompts(), NEW) == answers
    assert together.last.rounds == max(row.rounds for row in alone)
    assert together.last.rows == sum(row.rows for row in alone)
    assert together.last.accepted == sum(row.accepted for row in alone)


def test_a_stop_token_among_taken_guesses_ends_the_row(model):
    known = certain(model)
    said = TextGenerator(*known, capacity=40).generate(prompts(), NEW)
    # Token 3 of the first round: five guesses are right, the second of them is the last to be said.
    row = next(row for row in said if row[2] not in row[:2])
    stop = row[2]
    expected = [row[: row.index(stop) + 1] if stop in row else row for row in said]
    generator = SpeculativeGenerator(*known, capacity=40, stop_tokens=(stop,), drafts=5)
    assert generator.generate(prompts(), NEW) == expected
    assert TextGenerator(*known, capacity=40, stop_tokens=(stop,)).generate(prompts(), NEW) == expected


def test_stop_tokens_end_their_rows_alone(model, answers):
    stop = answers[1][6]
    expected = [row[: row.index(stop) + 1] if stop in row else row for row in answers]
    assert len({len(row) for row in expected}) > 1
    said = TextGenerator(*model, capacity=40, stop_tokens=(stop,)).stream(prompts()[1], NEW)
    assert list(said) == expected[1]
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
    with pytest.raises(ValueError, match="1 keys for 4 prompts"):
        TextGenerator(*model, capacity=40).generate(prompts(), 4, keys=[1])
    with pytest.raises(ValueError, match=r"top_p = 0.*accepted is"):
        SamplingConfig(top_p=0.0)
    config, params = model
    with pytest.raises(ValueError, match="num_mtp_layers = 0"):
        SpeculativeGenerator(dataclasses.replace(config, num_mtp_layers=0), params, capacity=16)
    with pytest.raises(ValueError, match="drafts 0"):
        SpeculativeGenerator(config, params, capacity=16, drafts=0)
