"""The Talker: packed rows, causality, residual codes, and speech that does not depend on how it is asked for."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.inference.speech import Speaker, SpeechRequest
from qomni_jax.sizes import talker_small, talker_tiny
from qomni_jax.talker.batch import BatchShape, Utterance, make_batch, pack, stream_length
from qomni_jax.talker.schemes import make_interleaver
from qomni_jax.talker.talker import StreamInput, Talker
from qomni_jax.training.talker_step import init_talker_state, make_talker_step, talker_loss

CONFIG = talker_tiny()
END = 0
SCHEMES = [
    InterleaverConfig(aria_paths=("tight",)),  # draws nothing: an item has one layout
    InterleaverConfig(scheme="dual_track", text_delay=1),
    InterleaverConfig(scheme="fixed_rate", text_block=2, speech_block=5),
]


def utterances(count: int, seed: int = 0) -> list[Utterance]:
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(count):
        text = np.append(rng.integers(5, 300, rng.integers(1, 6)), END).astype(np.int32)
        codes = rng.integers(0, 32, (int(rng.integers(3, 20)), 3)).astype(np.int32)
        items.append(Utterance(np.array([1, 2], np.int32), text, codes))
    return items


def batch_of(items, config: InterleaverConfig, rows: int, length: int = 48, dropout: float = 0.0):
    shape = BatchShape(rows, length, 3, 32, 4 * len(items))
    return make_batch(items, make_interleaver(config), shape, np.random.default_rng(0), frame_dropout=dropout)


@pytest.fixture(scope="module")
def params():
    """Random parameters of a tiny Talker whose logits are spread, so that argmax is not a matter of rounding."""
    fresh = init_talker_state(CONFIG, TalkerTrainingConfig(steps=10)).params
    return {**fresh, "codec_head": jax.tree.map(lambda x: 4 * x, fresh["codec_head"])}


def test_packing_keeps_every_item_once_within_the_rows():
    sizes = [30, 5, 12, 40, 9, 22, 3]
    rows = pack(sizes, 42)
    assert sorted(item for row in rows for item in row) == list(range(7))
    assert all(sum(sizes[item] for item in row) <= 42 for row in rows)
    assert len(rows) == 3


@pytest.mark.parametrize("config", SCHEMES, ids=lambda c: c.scheme)
def test_packed_rows_give_the_logits_of_each_item_alone(params, config):
    items = utterances(5)
    packed = batch_of(items, config, rows=3)
    logits = run(params, packed)[0]
    seen = 0
    for item in items:
        alone = batch_of([item], config, rows=3)
        size = int(alone["mask"].sum())
        expected = run(params, alone)[0][0, :size]
        places = [
            (row, int(start))
            for row in range(3)
            for start in np.flatnonzero((packed["position"][row] == 0) & (packed["mask"][row] > 0))
            if np.array_equal(packed["target"][row, start : start + size], alone["target"][0, :size])
        ]
        assert len(places) == 1
        row, start = places[0]
        np.testing.assert_allclose(logits[row, start : start + size], expected, atol=2e-4)
        seen += size
    assert seen == int(packed["mask"].sum())


@functools.partial(jax.jit, static_argnames="config")
def run(params, batch, config=CONFIG):
    inputs = StreamInput(batch["text"], batch["codes"], batch["frame"])
    return Talker(config).apply(
        {"params": params}, inputs, batch["position"], batch["mask"], segment_ids=batch["segment"]
    )


def test_the_future_does_not_change_the_past(params):
    batch = batch_of(utterances(1), SCHEMES[0], rows=3)
    logits = run(params, batch)[0]
    changed = dict(batch, codes=batch["codes"].copy(), text=batch["text"].copy())
    changed["codes"][0, 12:] += 1
    changed["text"][0, 12:] = 7
    np.testing.assert_allclose(run(params, changed)[0][0, :12], logits[0, :12], atol=1e-6)


def test_hidden_frames_are_not_seen(params):
    batch = batch_of(utterances(1), SCHEMES[0], rows=3)
    batch["frame"] = np.where(batch["frame"] == 1, 2, 0).astype(np.int32)
    other = dict(batch, codes=(batch["codes"] + 5) % 32)
    np.testing.assert_array_equal(run(params, batch)[0], run(params, other)[0])


def test_residual_codes_follow_the_teacher_forced_logits(params):
    hidden = np.random.default_rng(0).standard_normal((6, 32), np.float32)
    code0 = np.arange(6)
    apply = jax.jit(Talker(CONFIG).apply, static_argnames=("temperature", "top_k", "method"))
    keys = jax.random.split(jax.random.key(1), 6)
    codes = apply({"params": params}, hidden, code0, keys, temperature=0.0, top_k=0, method=Talker.residual_codes)
    logits = apply({"params": params}, hidden, codes, method=Talker.residual_logits)
    np.testing.assert_array_equal(codes[:, 1:], np.argmax(logits, -1))
    np.testing.assert_array_equal(codes[:, 0], code0)


def test_scanned_and_unrolled_layers_give_the_same_numbers(params):
    batch = batch_of(utterances(3), SCHEMES[0], rows=3)
    unrolled = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, unroll=True))
    np.testing.assert_allclose(run(params, batch, unrolled)[0], run(params, batch)[0], atol=1e-5)


def speaker(params, config: InterleaverConfig) -> Speaker:
    return Speaker(CONFIG, config, params, SamplingConfig(0.8, 8), END, max_text=12)


def requests() -> list[SpeechRequest]:
    return [SpeechRequest(u.prompt, u.text, 2.0, key) for key, u in enumerate(utterances(5, seed=3))]


@pytest.mark.parametrize("config", SCHEMES, ids=lambda c: c.scheme)
def test_streamed_speech_equals_speech_at_once(params, config):
    """However the text is cut into arrivals, and in whatever batch: the same frames, in the same order."""
    voice = speaker(params, config)
    whole = voice.speak(requests(), batch_size=5)
    assert any(len(said.codes) for said in whole)
    for request, said in zip(requests()[:3], whole, strict=False):
        for cut in (1, 3, 100):
            stream = voice.open(request.prompt, request.rate, max_frames=request.limit, key=request.key)
            frames = []
            for start in range(0, len(request.text), cut):
                stream.push(request.text[start : start + cut])
                frames += list(stream.frames())
            assert stream.finished
            assert stream.steps == said.steps
            assert stream.ended == said.ended
            np.testing.assert_array_equal(np.array(frames).reshape(-1, 3), said.codes)


@pytest.mark.parametrize("config", SCHEMES, ids=lambda c: c.scheme)
def test_all_text_is_read_before_speech_may_end_and_runaways_are_stopped(params, config):
    for request, said in zip(requests(), speaker(params, config).speak(requests(), batch_size=5), strict=True):
        if said.ended:
            assert sum(step in "tb" for step in said.steps) == len(request.text)
        else:
            assert len(said.codes) == request.limit


def test_speech_is_stopped_where_there_is_no_room_for_more(params):
    room = CONFIG.max_positions - 2
    request = dataclasses.replace(requests()[0], rate=5.0, text=np.array([*[9] * 11, END], np.int32))
    assert 12 + request.limit > room > 12 + 60
    (said,) = speaker(params, SCHEMES[0]).speak([request], batch_size=5)
    assert len(said.codes) <= room - 12
    assert said.ended or len(said.codes) == room - 12


def test_text_beyond_the_limits_is_refused(params):
    voice = speaker(params, SCHEMES[0])
    with pytest.raises(ValueError, match=r"expected of them \(109 frames\), 94 stream steps"):
        voice.speak([dataclasses.replace(requests()[0], rate=9.0, text=np.full(12, 9, np.int32))], batch_size=5)
    long = SpeechRequest(np.array([1, 2], np.int32), np.full(13, 9, np.int32), 1.0)
    with pytest.raises(ValueError, match="13 tokens"):
        voice.speak([long], batch_size=1)
    stream = voice.open(long.prompt, 1.0, max_frames=10)
    with pytest.raises(ValueError, match="13 tokens"):
        stream.push(long.text)


@pytest.fixture(scope="module")
def training_step():
    training = TalkerTrainingConfig(steps=40)
    return training, make_talker_step(CONFIG, training)


@pytest.mark.parametrize("config", SCHEMES, ids=lambda c: c.scheme)
def test_a_few_steps_learn_the_batch(training_step, config):
    training, step = training_step
    state = init_talker_state(CONFIG, training)
    batch = batch_of(utterances(4), config, rows=3)
    state, first = step(state, batch)
    for _ in range(39):
        state, last = step(state, batch)
    assert float(last["loss"]) < 0.6 * float(first["loss"])
    assert 0.25 <= float(last["router_max_load"]) <= 1.0
    assert last["router_load"].shape == (CONFIG.decoder.feed_forward.num_experts,)
    assert 0 < float(last["router_entropy"]) <= np.log(4) + 1e-6


def test_gradients_reach_every_parameter(params):
    batch = batch_of(utterances(6), SCHEMES[1], rows=4, dropout=0.5)
    grads = jax.jit(jax.grad(lambda p: talker_loss(Talker(CONFIG), p, batch, TalkerTrainingConfig())[0]))(params)
    silent = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(grads) if not np.any(g)]
    assert silent == []


def test_an_utterance_that_does_not_fit_is_named():
    item = utterances(1)[0]
    size = stream_length(make_interleaver(SCHEMES[0]), item)
    with pytest.raises(ValueError, match=f"up to {size} stream steps"):
        batch_of([item], SCHEMES[0], rows=1, length=size - 1)


def test_the_small_talker_has_the_size_it_says():
    state = jax.eval_shape(lambda: init_talker_state(talker_small(), TalkerTrainingConfig()))
    assert 2e6 < sum(leaf.size for leaf in jax.tree.leaves(state.params)) < 1e7
