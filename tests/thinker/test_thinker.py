"""The Thinker: media in their places, rows that do not see each other, clear errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.config.vision import ImageConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.speculative import SpeculativeGenerator
from qomni_jax.inference.text import TextGenerator
from qomni_jax.layers.linear import unbox
from qomni_jax.sequence.assembly import assemble
from qomni_jax.sequence.chat import Audio, Image, Text, Turn, Video
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize, VideoSize
from qomni_jax.sequence.packing import pack
from qomni_jax.sizes import thinker_tiny
from qomni_jax.thinker import Example, Media, Thinker, place_media
from qomni_jax.thinker.batch import bucket
from qomni_jax.vision.patches import patchify
from tests.sequence.conversations import TOKENIZER

LAYOUT = SequenceConfig(audio_timestamp_interval=1.0)
NEW = 6


@pytest.fixture(scope="module")
def model():
    """Two layers of each kind; logits spread, so that the likeliest token is not a matter of rounding."""
    config = thinker_tiny(TOKENIZER.vocab_size)
    language_model = config.language_model
    decoder = dataclasses.replace(language_model.decoder, periods=1, pattern=("gdn", "attention"))
    config = dataclasses.replace(config, language_model=dataclasses.replace(language_model, decoder=decoder))

    def everything(model: Thinker, media: Media) -> None:
        hidden = model(jnp.zeros((1, 1), jnp.int32), slots=jnp.zeros((1, 1), jnp.int32), media=media).hidden
        model.language_model.mtp_hidden(jnp.zeros((1, 1), jnp.int32), hidden)

    media, _ = place_media([example(config, 0, images=1, sound=40)], config)
    params = jax.jit(lambda key: unbox(Thinker(config).init(key, media, method=everything))["params"])(
        jax.random.key(0)
    )
    params["language_model"]["lm_head"] = jax.tree.map(lambda x: 8 * x, params["language_model"]["lm_head"])
    return config, params


def example(config, seed: int, *, images: int = 0, sound: int = 0, video: bool = False) -> Example:
    """A question with media: `images` of them, a recording of `sound` frames, a video with its sound."""
    rng = np.random.default_rng(seed)
    parts, sizes, pictures, videos, recordings = [], [], [], [], []
    for number in range(images):
        frames = rng.uniform(-1, 1, (1, 32, 64 + 32 * number, 3)).astype(np.float32)
        patches, grid = patchify(frames, ImageConfig())
        pictures.append((patches, grid))
        parts.append(Image())
        sizes.append(ImageSize(grid))
    if sound:
        recordings.append(rng.standard_normal((sound, config.audio.num_mels)).astype(np.float32))
        parts.append(Audio())
        sizes.append(AudioSize(config.audio.num_tokens(sound)))
    if video:
        patches, grid = patchify(rng.uniform(-1, 1, (4, 64, 32, 3)).astype(np.float32), ImageConfig())
        recordings.append(rng.standard_normal((70, config.audio.num_mels)).astype(np.float32))
        videos.append((patches, grid))
        parts.append(Video(sound=True))
        sizes.append(VideoSize(grid, (0.0, 0.4), config.audio.num_tokens(70)))
    sequence = assemble([Turn("user", (*parts, Text("what?")))], sizes, TOKENIZER, LAYOUT, reply=True)
    return Example(sequence, pictures, videos, recordings)


def examples(config) -> list[Example]:
    return [
        example(config, 1),
        example(config, 2, images=2),
        example(config, 3, sound=250),
        example(config, 4, images=1, sound=33, video=True),
    ]


def answers(model, batch: list[Example], generator_type=TextGenerator, **settings) -> list[list[int]]:
    config, params = model
    media, slots = place_media(batch, config)
    features = None
    if media is not None:
        features = jax.jit(lambda p, m: Thinker(config).apply({"params": p}, m, method=Thinker.encode))(params, media)
    prompts = [Prompt(e.sequence.tokens, e.sequence.positions, s) for e, s in zip(batch, slots, strict=True)]
    generator = generator_type(config.language_model, params["language_model"], capacity=256, **settings)
    return generator.generate(prompts, NEW, features=features)


def test_each_answer_is_the_same_alone_and_in_a_batch(model):
    config, _ = model
    batch = examples(config)
    together = answers(model, batch, prefill_chunk=64)
    for number in (0, 3):
        assert answers(model, batch[number : number + 1], prefill_chunk=64)[0] == together[number]
    assert len({tuple(said) for said in together}) > 1


def test_guessing_ahead_says_the_same_about_media(model):
    batch = examples(model[0])
    expected = answers(model, batch, prefill_chunk=64)
    assert answers(model, batch, SpeculativeGenerator, prefill_chunk=32, drafts=2) == expected


def test_a_packed_row_gives_the_logits_of_each_alone(model):
    config, params = model
    batch = examples(config)
    packed = pack([e.sequence for e in batch], 256, 0)
    assert packed.members == [[0, 1, 2, 3]]
    row = Example(
        type(packed.rows)(*(x[:, 0] if name == "positions" else x[0] for name, x in packed.rows._asdict().items())),
        [image for e in batch for image in e.images],
        [video for e in batch for video in e.videos],
        [recording for e in batch for recording in e.recordings],
    )

    def logits(one: Example) -> np.ndarray:
        media, (slots,) = place_media([one], config)
        s = one.sequence
        out = jax.jit(Thinker(config).apply)(
            {"params": params},
            s.tokens[None],
            s.positions[:, None],
            segment_ids=s.segment_ids[None],
            slots=slots[None],
            media=media,
        )
        return np.asarray(out.logits[0])

    whole, start = logits(row), 0
    for one in batch:
        end = start + one.sequence.num_tokens
        # Logits are spread by 8; sums in another order.
        np.testing.assert_allclose(whole[start:end], logits(one), atol=5e-4)
        start = end


def test_what_the_media_say_matters(model):
    config, _ = model
    first, second = example(config, 5, images=1, sound=60), example(config, 6, images=1, sound=60)
    np.testing.assert_array_equal(first.sequence.tokens, second.sequence.tokens)
    assert answers(model, [first], prefill_chunk=64) != answers(model, [second], prefill_chunk=64)


def test_media_that_do_not_fill_their_places_are_named(model):
    config, _ = model
    one = example(config, 3, sound=250)
    short = one._replace(recordings=[one.recordings[0][:100]])
    with pytest.raises(ValueError, match="example 1: 7 audio features: accepted is 16"):
        place_media([one, short], config)


def test_media_without_their_encoder_are_refused(model):
    config, params = model
    media, _ = place_media([example(config, 2, images=1)], config)
    deaf = dataclasses.replace(config, vision=None)
    with pytest.raises(ValueError, match="without a vision encoder"):
        Thinker(deaf).apply({"params": params}, media, method=Thinker.encode)


def test_widths_must_agree():
    config = thinker_tiny()
    with pytest.raises(ValueError, match=r"audio.output_dim = 48: accepted is the decoder's model_dim, 32"):
        dataclasses.replace(config, audio=dataclasses.replace(config.audio, output_dim=48))
    one = dataclasses.replace(config.language_model.decoder, periods=1)
    shallow = dataclasses.replace(config.language_model, decoder=one)
    deep = dataclasses.replace(config.vision, deepstack_layers=(0, 1))
    with pytest.raises(ValueError, match="2 of them: accepted are at most the decoder's 1 periods"):
        dataclasses.replace(config, language_model=shallow, vision=deep)


def test_buckets_are_at_most_half_as_large_again():
    found = [bucket(n) for n in range(1, 200)]
    assert all(n <= b <= 1.5 * n for n, b in enumerate(found, 1))
    assert sorted(set(found)) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
