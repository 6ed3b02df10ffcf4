"""Talker batches: the same utterances whatever the scheme, a loader that goes on exactly, word times in frames."""

import itertools

import numpy as np
import pytest

from data_pipelines.speech_codes.codes import write_codes
from data_pipelines.speech_corpus.builder import build_corpus
from data_pipelines.speech_corpus.config import CorpusConfig, SplitConfig
from experiments.study.talker_data import TalkerData, to_utterance, word_of_token
from experiments.talker_batches import frame_rates, token_durations
from qomni_jax.codec import Codec
from qomni_jax.config.codec import CodecConfig, LogMelConfig, RVQConfig, VocoderConfig
from qomni_jax.config.talker import InterleaverConfig
from qomni_jax.config.training import TalkerTrainingConfig
from qomni_jax.sequence.tokenizer import TextTokenizer
from qomni_jax.sizes import talker_tiny
from qomni_jax.talker.prompt import prompt_tokens, rate_bucket
from qomni_jax.talker.schemes import make_interleaver

VOICES = ("en-us+klatt6", "en-us+adam")
CODEC = CodecConfig(
    log_mel=LogMelConfig(num_mels=20),
    rvq=RVQConfig(latent_dim=16, num_codebooks=3, codebook_size=32),
    vocoder=VocoderConfig(width=16, num_blocks=1, kernel_size=3, expansion=2),
)
TRAINING = TalkerTrainingConfig(steps=14, batch_size=4, row_length=64, residual_frames=5)
SCHEMES = [
    InterleaverConfig(),
    InterleaverConfig(scheme="aria", aria_paths=("word_times",)),
    InterleaverConfig(scheme="aria", aria_paths=("expected",)),
    InterleaverConfig(scheme="dual_track", text_delay=1),
    InterleaverConfig(scheme="dual_track", text_pace="expected"),
    InterleaverConfig(scheme="fixed_rate", text_block=2, speech_block=5),
]


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("talker_data")
    splits = (
        SplitConfig("train", 20, 2, 4, 180, 270, VOICES),
        SplitConfig("train_long", 10, 6, 8, 180, 270, VOICES),
    )
    corpus = build_corpus(CorpusConfig(splits=splits), directory / "corpus", workers=1)
    return write_codes(corpus, directory / "codes", Codec.initialise(CODEC).encode_audio, codec="random")


@pytest.fixture(scope="module")
def tokenizer(codes):
    return TextTokenizer.train((record["text"] for record in codes.split("train")), 300, prompt_tokens(VOICES))


def data_of(codes, tokenizer, scheme: InterleaverConfig, splits: tuple[str, ...] = ("train",)) -> TalkerData:
    interleaver = make_interleaver(scheme)
    records = [record for split in splits for record in codes.split(split)]
    durations = token_durations(records, tokenizer, frame_rates(records, tokenizer))
    return TalkerData(codes, splits, tokenizer, interleaver, talker_tiny(), TRAINING, CODEC.frame_rate, durations)


def batches(data: TalkerData, count: int, start: int = 0) -> list[dict[str, np.ndarray]]:
    loader = data.loader(start)
    try:
        return list(itertools.islice(loader, count))
    finally:
        loader.close()


def utterances_in(batch: dict[str, np.ndarray]) -> list[tuple[bytes, bytes]]:
    """Prompt with text, and frames, of every utterance in a batch, in an order of their own."""
    found = []
    for row in range(len(batch["mask"])):
        used = batch["mask"][row] > 0
        for segment in np.unique(batch["segment"][row][used]):
            own = used & (batch["segment"][row] == segment)
            text, frame = batch["text"][row][own], batch["frame"][row][own]
            found.append((text[text >= 0].tobytes(), batch["codes"][row][own][frame > 0].tobytes()))
    return sorted(found)


@pytest.mark.parametrize("splits", [("train",), ("train", "train_long")])
def test_a_step_has_the_same_utterances_under_every_scheme(codes, tokenizer, splits):
    first, *others = ([utterances_in(b) for b in batches(data_of(codes, tokenizer, s, splits), 7)] for s in SCHEMES)
    assert all(len(step) == TRAINING.batch_size for step in first)
    assert len({tuple(step) for step in first}) == 7
    for other in others:
        assert other == first


def test_a_loader_started_later_goes_on_exactly(codes, tokenizer):
    data = data_of(codes, tokenizer, SCHEMES[0])
    whole = batches(data, 9)
    for ours, theirs in zip(batches(data, 3, start=6), whole[6:], strict=True):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: f"{scheme.scheme}-{scheme.aria_paths[0]}")
def test_every_batch_fits_one_shape(codes, tokenizer, scheme):
    data = data_of(codes, tokenizer, scheme, ("train", "train_long"))
    rows, length = data.shape.rows, data.shape.length
    assert length % 16 == 0
    full = 0
    for batch in batches(data, TRAINING.steps):
        assert batch["text"].shape == batch["mask"].shape == (rows, length)
        assert batch["codes"].shape == (rows, length, 3)
        assert batch["residual_codes"].shape == (TRAINING.batch_size * TRAINING.residual_frames, 3)
        full = max(full, int(np.sum(batch["mask"].any(axis=1))))
    assert full == rows  # no row that is never used


def test_splits_are_joined_in_order(codes, tokenizer):
    joined = data_of(codes, tokenizer, SCHEMES[0], ("train", "train_long")).utterances
    texts = [record["text"] for split in ("train", "train_long") for record in codes.split(split)]
    assert [tokenizer.decode(item.text) for item in joined] == texts
    assert len(joined) == 30
    seen = {
        text
        for batch in batches(data_of(codes, tokenizer, SCHEMES[0], ("train", "train_long")), 7)
        for text, _ in utterances_in(batch)
    }
    assert max(map(len, seen)) > max(len(item.text) for item in joined[:20]) * 4 + 8


def test_word_times_put_each_token_at_the_frame_of_its_word():
    tokenizer = TextTokenizer.train(["kilo"], 264, prompt_tokens(VOICES))  # no merge: tokens are letters
    words = {"char_start": [0, 6], "char_end": [5, 11], "start_s": [0.08, 0.56], "end_s": [0.5, 1.0]}
    record = {
        "text": "alpha bravo",
        "voice": VOICES[0],
        "rate_wpm": 200,
        "codes": np.zeros((13, 3), np.uint16),
        "words": {name: np.array(values) for name, values in words.items()},
    }
    item = to_utterance(record, tokenizer, 12.5)
    assert item.text.size == 13  # each word with the space before it, and end-of-text
    np.testing.assert_allclose(item.times.spoken, [1.0] * 6 + [7.0] * 6 + [13.0])
    np.testing.assert_allclose(to_utterance(record, tokenizer, 25.0).times.spoken[:12], [2.0] * 6 + [14.0] * 6)
    assert word_of_token(record, tokenizer) == [0] * 6 + [1] * 6


def test_word_times_of_the_corpus_agree_with_its_recordings(codes, tokenizer):
    for record in codes.split("train"):
        item = to_utterance(record, tokenizer, CODEC.frame_rate)
        words = word_of_token(record, tokenizer)
        expected = record["words"]["start_s"][words] * 12.5
        np.testing.assert_allclose(item.times.spoken[:-1], expected, rtol=1e-6)
        assert item.times.spoken[-1] == len(record["codes"]) >= expected[-1]


def test_frame_rates_are_means_of_each_speaking_rate(codes, tokenizer):
    records = list(codes.split("train"))
    rates = frame_rates(records, tokenizer)
    ratios = [len(r["codes"]) / len(tokenizer.encode(r["text"])) for r in records]
    buckets = np.array([rate_bucket(r["rate_wpm"]) for r in records])
    for bucket in set(buckets.tolist()):
        assert rates[bucket] == pytest.approx(np.mean(np.array(ratios)[buckets == bucket]))
    assert rates[0] == pytest.approx(np.mean(ratios))  # nobody speaks that slowly here
