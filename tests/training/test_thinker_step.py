"""Training the Thinker: batches of one shape, a loss that counts what it says it counts, and a model that learns."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from qomni_jax.config.training import OptimizerConfig, ThinkerTrainingConfig
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.example import Example
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, VideoSize
from qomni_jax.sizes import thinker_tiny
from qomni_jax.thinker.batch import MediaShape
from qomni_jax.training.losses import IGNORED
from qomni_jax.training.thinker_batch import BatchShape, rows_of, training_batch
from qomni_jax.training.thinker_step import init_thinker_state, make_thinker_step, thinker_loss
from tests.sequence.conversations import CONFIGS, TOKENIZER

ROW = 96
SHAPE = BatchShape(3, ROW, MediaShape(2, 4, 4, 160), 6, 6)
TRAINING = ThinkerTrainingConfig(
    steps=40,
    loss_chunk=64,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=4),
    recording_frames=(160,),
    caption_weight=1.0,
)


@pytest.fixture(scope="module")
def config():
    """Two layers, and windows that are always the whole clip."""
    tiny = thinker_tiny(TOKENIZER.vocab_size)
    decoder = dataclasses.replace(tiny.language_model.decoder, periods=1, pattern=("gdn", "attention"))
    language_model = dataclasses.replace(tiny.language_model, decoder=decoder, num_mtp_layers=1)
    return dataclasses.replace(
        tiny, language_model=language_model, audio=dataclasses.replace(tiny.audio, full_window_rate=1.0)
    )


def example(
    config, seed: int, frames: int, answer: str, *, image: bool = False, transcript: bool = True, caption: str = ""
) -> Example:
    rng = np.random.default_rng(seed)
    recording = rng.standard_normal((frames, config.audio.num_mels)).astype(np.float32)
    parts, sizes, pictures = [Audio()], [AudioSize(config.audio.num_tokens(frames))], []
    if image:
        pictures.append((rng.uniform(-1, 1, (16, config.vision.patch_dim)).astype(np.float32), (1, 4, 4)))
        parts.append(Image())
        sizes.append(ImageSize((1, 4, 4)))
    turns = [Turn("user", (*parts, Text("what?"))), Turn("assistant", (Text(answer),))]
    sequence = assemble(turns, sizes, TOKENIZER, CONFIGS["qomni"])
    said = [TOKENIZER.encode_text(answer)] if transcript else []
    return Example(sequence, pictures, [], [recording], said, [TOKENIZER.encode_text(caption)] if caption else [])


def batch_of(config, examples, number: int = 0):
    return training_batch(examples, config, SHAPE, pad_token=0, number=number)


def test_batches_have_one_shape_and_labels_beside_their_recordings(config):
    one = batch_of(config, [example(config, 0, 90, "fox")])
    many = [example(config, seed, 60 + 20 * seed, "the fox"[: 3 + seed], image=seed == 1) for seed in range(3)]
    more = batch_of(config, many)
    assert {name: array.shape for name, array in one.items()} == {name: array.shape for name, array in more.items()}
    assert (int(one["conversations"]), int(more["conversations"])) == (1, 3)
    order = [int(np.flatnonzero([len(e.recordings[0]) == n for e in many])[0]) for n in more["frames"][:3]]
    for place, number in enumerate(order):
        said = many[number].transcripts[0]
        np.testing.assert_array_equal(more["labels"][place, : len(said)], said)
        assert np.all(more["labels"][place, len(said) :] == IGNORED)
    assert np.all(more["labels"][3:] == IGNORED)
    heard = np.sum([np.sum(e.sequence.kinds != Kind.TEXT) for e in many])
    assert np.sum(more["slots"] >= 0) == heard


def test_conversations_without_a_row_are_left_out_and_not_counted(config):
    many = [example(config, seed, 150, "the quick brown fox") for seed in range(12)]
    assert rows_of(many, ROW, 0) > SHAPE.rows
    batch = training_batch(many, config, SHAPE._replace(media=MediaShape(2, 4, 12, 160)), pad_token=0, number=0)
    assert batch["tokens"].shape == (SHAPE.rows, ROW)
    assert int(batch["conversations"]) == int(np.sum(batch["frames"] > 0)) < 12
    with pytest.raises(ValueError, match="accepted are at most 6"):
        batch_of(config, [example(config, 0, 90, "the quick brown fox the quick brown fox")])


@pytest.fixture(scope="module")
def state(config):
    return init_thinker_state(config, TRAINING)


@pytest.fixture(scope="module")
def metrics_of(config, state):
    loss = jax.jit(lambda batch: thinker_loss(config, TRAINING, state.params, batch)[1])
    return lambda examples: jax.device_get(loss(batch_of(config, examples)))


def test_a_batch_has_the_loss_of_its_conversations_alone(config, metrics_of):
    items = [example(config, seed, 60 + 20 * seed, text) for seed, text in enumerate(("fox", "the quick fox"))]
    together, alone = metrics_of(items), [metrics_of([item]) for item in items]
    for name, counts in (
        ("token_loss", [np.sum(item.sequence.loss_weights) for item in items]),
        ("ctc_loss", [len(item.transcripts[0]) for item in items]),
    ):
        # Sums of a few float32 losses, taken in another order.
        np.testing.assert_allclose(together[name], np.average([m[name] for m in alone], weights=counts), rtol=2e-5)


def test_transcripts_that_are_unknown_or_too_long_for_their_recording_do_not_count(config, metrics_of):
    known = example(config, 0, 100, "fox")
    unknown = example(config, 1, 100, "fox", transcript=False)
    short = example(config, 2, 20, "the the")  # two tokens of sound
    assert config.audio.num_tokens(20) < len(short.transcripts[0])
    alone = metrics_of([known])["ctc_loss"]
    np.testing.assert_allclose(metrics_of([known, unknown, short])["ctc_loss"], alone, rtol=2e-5)
    assert metrics_of([unknown])["ctc_loss"] == 0


def test_captions_are_in_the_order_of_the_patches_images_first(config):
    rng = np.random.default_rng(0)
    patches = rng.uniform(-1, 1, (4, config.vision.patch_dim)).astype(np.float32)

    def seeing(number: int, known: bool) -> Example:
        turns = [Turn("user", (Video(), Image(), Text("?"))), Turn("assistant", (Text("fox"),))]
        sizes = [VideoSize((2, 2, 2), (0.0, 1.0)), ImageSize((1, 2, 2))]
        captions = [np.array([10 * number + patch], np.int32) for patch in range(3)] if known else []
        sequence = assemble(turns, sizes, TOKENIZER, CONFIGS["qomni"])
        pictures, clips = [(patches, (1, 2, 2))], [(np.tile(patches, (2, 1)), (2, 2, 2))]
        return Example(sequence, pictures, clips, captions=captions)

    examples = [seeing(1, True), seeing(2, False), seeing(3, True)]
    shape = BatchShape(1, 256, MediaShape(12, 1), 1, 2)
    batch = training_batch(examples, config, shape, pad_token=0, number=0)
    order = [int(tokens[0]) // 10 for tokens in batch["captions"] if tokens[0] != IGNORED]
    assert batch["captions"].shape == (12, 2)
    # One packed row: the images of its conversations, of which the second is not known, then their videos.
    first, second = order[:2], order[2:]
    assert sorted(first) == [1, 3]
    assert second == [number for number in first for _ in range(2)]
    labels = [int(tokens[0]) for tokens in batch["captions"]]
    assert [label % 10 for label in labels if label != IGNORED] == [0, 0, 1, 2, 1, 2]
    assert labels.count(IGNORED) == 12 - 6
    assert np.all(batch["captions"][:, 1] == IGNORED)


def test_the_caption_loss_counts_each_picture_with_a_caption_once(config, metrics_of):
    items = [
        example(config, 0, 60, "fox", image=True, caption="fox"),
        example(config, 1, 60, "fox", image=True, caption="the"),
    ]
    unknown = example(config, 2, 60, "fox", image=True)
    together, alone = metrics_of(items), [metrics_of([item])["caption_loss"] for item in items]
    np.testing.assert_allclose(together["caption_loss"], np.mean(alone), rtol=2e-5)
    np.testing.assert_allclose(metrics_of([items[0], unknown])["caption_loss"], alone[0], rtol=2e-5)
    assert metrics_of([unknown])["caption_loss"] == 0


def test_the_ctc_loss_is_that_of_the_encoder_s_tokens(config, state, metrics_of):
    item = example(config, 3, 110, "the fox")
    from qomni_jax.audio.aut import AudioEncoder

    heard, lengths = AudioEncoder(config.audio).apply(
        {"params": state.params["thinker"]["audio_encoder"]}, item.recordings[0][None], np.array([110]), 2**30
    )
    logits = heard @ state.params["ctc_head"]["kernel"]
    said = item.transcripts[0]
    expected = optax.ctc_loss(
        logits, np.zeros(logits.shape[:2]), said[None], np.zeros((1, len(said))), blank_id=TOKENIZER.vocab_size
    )
    assert logits.shape[1] == int(lengths[0])
    np.testing.assert_allclose(metrics_of([item])["ctc_loss"], float(expected[0]) / len(said), rtol=2e-5)


def test_the_step_learns_what_each_recording_says(config):
    items = [example(config, seed, 150, text) for seed, text in enumerate(("the fox", "brown", "quick quick"))]
    state, step = init_thinker_state(config, TRAINING), make_thinker_step(config, TRAINING)
    first = None
    for number in range(TRAINING.steps):
        state, metrics = step(state, batch_of(config, items, number))
        first = first or jax.device_get(metrics)
    assert first["token_loss"] > 4.0  # log 330 = 5.8 for a guess
    assert metrics["token_loss"] < 0.2
    assert metrics["ctc_loss"] < 0.7 * first["ctc_loss"]
