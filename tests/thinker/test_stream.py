"""Media piece by piece: the same features as in one batch, in constant memory, and clear errors."""

import dataclasses
import weakref

import jax
import numpy as np
import pytest

from qomni_jax.config.thinker import ThinkerConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, VideoSize
from qomni_jax.sizes import audio_encoder_tiny, language_model_tiny, vision_encoder_tiny
from qomni_jax.thinker import (
    Example,
    MediaFeatures,
    Pictures,
    Recording,
    StreamedExample,
    Thinker,
    encode_media,
    place_features,
    place_media,
)
from qomni_jax.vision.patches import patchify
from tests.sequence.conversations import CONFIGS, TOKENIZER

# Windows of two chunks; DeepStack features beside the tokens.
AUDIO = dataclasses.replace(audio_encoder_tiny(), window=20)
VISION = dataclasses.replace(vision_encoder_tiny(), deepstack_layers=(0, 1))
CONFIG = ThinkerConfig(language_model_tiny(TOKENIZER.vocab_size), AUDIO, VISION)


@pytest.fixture(scope="module")
def params():
    media, _ = place_media([example(0, (1, 32, 32), 1, 40)], CONFIG)
    return jax.jit(lambda key: unbox(Thinker(CONFIG).init(key, media, method=Thinker.encode))["params"])(
        jax.random.key(0)
    )


def example(seed: int, image: tuple[int, int, int], video_frames: int, sound: int) -> Example:
    """An image, a video of `video_frames` frames, and a recording of `sound` frames."""
    rng = np.random.default_rng(seed)
    picture = patchify(rng.uniform(-1, 1, (*image, 3)).astype(np.float32), ImageConfig())
    video = patchify(rng.uniform(-1, 1, (video_frames, 32, 64, 3)).astype(np.float32), ImageConfig())
    recording = rng.standard_normal((sound, AUDIO.num_mels)).astype(np.float32)
    times = tuple(range(video[1][0]))
    sizes = (ImageSize(picture[1]), VideoSize(video[1], times), AudioSize(AUDIO.num_tokens(sound)))
    turn = Turn("user", (Image(), Video(), Audio(), Text("what?")))
    sequence = assemble([turn], sizes, TOKENIZER, CONFIGS["qomni"], reply=True)
    return Example(sequence, [picture], [video], [recording])


def streamed(one: Example, block: int = 37) -> StreamedExample:
    """The same, in pieces that agree with no window."""

    def pictures(patches, grid):
        return Pictures(grid, iter(patches.reshape(grid[0], grid[1] * grid[2], -1)))

    recordings = [Recording(len(r), np.split(r, range(block, len(r), block))) for r in one.recordings]
    images, videos = ([pictures(*item) for item in items] for items in (one.images, one.videos))
    return StreamedExample(one.sequence, images, videos, recordings)


def placed(sequence, slots: np.ndarray, features: MediaFeatures) -> tuple[np.ndarray, np.ndarray]:
    """What stands in the places of the media `[T, D]`, and what DeepStack adds `[N, T, D]`."""
    nothing = np.zeros((1, sequence.num_tokens, features.table.shape[1]), np.float32)
    embeddings, deepstack = place_features(nothing, slots[None], features)
    return np.asarray(embeddings[0]), np.asarray(deepstack[:, 0])


# One window and a bit, several calls of windows, exactly two windows, and a part of one; videos in one call and many.
BATCH = [(1, (1, 32, 32), 8, 421), (2, (1, 64, 96), 3, 3001), (3, (1, 32, 64), 14, 640), (4, (1, 32, 32), 2, 90)]


@pytest.mark.parametrize(("windows", "patches"), [(3, 40), (8, 4096)])
def test_pieces_give_what_the_whole_batch_gives(params, windows, patches):
    batch = [example(*sizes) for sizes in BATCH]
    media, whole_slots = place_media(batch, CONFIG)
    encode = jax.jit(lambda p, m: Thinker(CONFIG).apply({"params": p}, m, method=Thinker.encode))
    whole = encode(params, media)
    features, slots = encode_media([streamed(one) for one in batch], CONFIG, params, windows=windows, patches=patches)
    for one, at, expected_at in zip(batch, slots, whole_slots, strict=True):
        np.testing.assert_array_equal(at >= 0, expected_at >= 0)
        found, expected = placed(one.sequence, at, features), placed(one.sequence, expected_at, whole)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)  # float32 products of other shapes


def test_an_encoder_without_windows_hears_all_at_once(params):
    config = dataclasses.replace(CONFIG, audio=dataclasses.replace(AUDIO, window=None))
    batch = [example(5, (1, 32, 32), 2, 1000)]
    media, (expected_at,) = place_media(batch, config)
    whole = jax.jit(lambda p, m: Thinker(config).apply({"params": p}, m, method=Thinker.encode))(params, media)
    features, (at,) = encode_media([streamed(batch[0])], config, params)
    found, _ = placed(batch[0].sequence, at, features)
    np.testing.assert_allclose(found, placed(batch[0].sequence, expected_at, whole)[0], atol=1e-5)  # as above


def test_text_alone_has_no_features(params):
    sequence = assemble([Turn("user", (Text("what?"),))], [], TOKENIZER, CONFIGS["qomni"])
    features, (slots,) = encode_media([StreamedExample(sequence)], CONFIG, params)
    assert features is None
    assert np.all(slots == -1)


def test_a_recording_without_pictures_has_nothing_for_deepstack(params):
    recording = np.random.default_rng(8).standard_normal((90, AUDIO.num_mels)).astype(np.float32)
    turn = Turn("user", (Audio(), Text("what?")))
    sequence = assemble([turn], [AudioSize(AUDIO.num_tokens(90))], TOKENIZER, CONFIGS["qomni"], reply=True)
    features, (slots,) = encode_media([streamed(Example(sequence, [], [], [recording]))], CONFIG, params)
    nothing = np.zeros((1, sequence.num_tokens, features.table.shape[1]), np.float32)
    embeddings, deepstack = place_features(nothing, slots[None], features)
    assert deepstack is None
    assert np.any(embeddings[0, slots >= 0])
    assert not np.any(embeddings[0, slots < 0])


def test_what_was_streamed_can_be_read_whole():
    one = example(6, (1, 32, 32), 5, 200)
    for ours, theirs in zip(jax.tree.leaves(streamed(one).read()), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_only_one_piece_is_read_ahead(params):
    """What was read is let go: memory does not grow with the recording."""
    given, held = 0, []

    def blocks():
        nonlocal given
        while given < 40:
            given += 1
            block = np.zeros((320, AUDIO.num_mels), np.float32)
            held.append(weakref.ref(block))
            yield block

    sizes = [AudioSize(AUDIO.num_tokens(40 * 320))]
    sequence = assemble([Turn("user", (Audio(),))], sizes, TOKENIZER, CONFIGS["qomni"])
    most = 0

    def watched():
        nonlocal most
        for block in blocks():
            most = max(most, sum(reference() is not None for reference in held))
            yield block

    encode_media([StreamedExample(sequence, recordings=[Recording(40 * 320, watched())])], CONFIG, params, windows=2)
    assert most <= 4  # two of the piece that is put together, and the one that is on its way


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e._replace(recordings=[Recording(1000, e.recordings[0].blocks)]), "63 audio features: accepted is"),
        (lambda e: e._replace(recordings=[e.recordings[0]._replace(blocks=[])]), "0 frames: accepted is 421"),
        (lambda e: e._replace(recordings=[e.recordings[0]._replace(blocks=[np.zeros((422, 128))])]), "of 422 frames"),
        (lambda e: e._replace(videos=[e.videos[0]._replace(patches=[])]), "0 temporal patches: accepted is 4"),
        (lambda e: e._replace(images=()), "example 0: 0 image features: accepted is 1"),
    ],
)
def test_media_that_are_not_what_they_announce_are_named(params, change, message):
    with pytest.raises(ValueError, match=message):
        encode_media([change(streamed(example(*BATCH[0])))], CONFIG, params)
