"""The vision encoder: a frame's tokens whatever stands beside it, positions that stretch over its grid."""

import dataclasses

import jax
import numpy as np
import pytest

from qomni_jax.config.encoder import EncoderConfig
from qomni_jax.config.vision import VisionEncoderConfig
from qomni_jax.layers.linear import unbox
from qomni_jax.vision.patches import frame_rows
from qomni_jax.vision.positions import patch_coordinates, resampled_positions
from qomni_jax.vision.tower import VisionEncoder

CONFIG = VisionEncoderConfig(
    encoder=EncoderConfig(model_dim=16, num_layers=2, num_heads=2, mlp_dim=24, norm_eps=1e-6, gelu="tanh"),
    output_dim=12,
    patch_size=2,
    position_side=5,
    deepstack_layers=(0,),
)
GRIDS = [(1, 4, 6), (2, 2, 2), (1, 2, 8)]


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(0)
    items = [(rng.standard_normal((t * h * w, 24), np.float32), (t, h, w)) for t, h, w in GRIDS]
    patches, grids = frame_rows(items, rows=5, length=28)
    model = VisionEncoder(CONFIG)
    params = unbox(jax.jit(model.init)(jax.random.key(0), patches, grids))["params"]
    return jax.jit(lambda *args: model.apply({"params": params}, *args)), items, patches, grids


def test_a_frame_gives_the_same_alone_and_in_any_batch(setting):
    apply, _, patches, grids = setting
    batch = apply(patches, grids)
    assert batch.lengths.tolist() == [6, 1, 1, 4, 0]
    assert batch.deepstack.shape == (1, 5, 7, 12)
    for row in (0, 2):
        alone = apply(patches[row : row + 1, : grids[row].prod()], grids[row : row + 1])
        own = batch.lengths[row]
        # float32 products of other shapes
        np.testing.assert_allclose(batch.tokens[row, :own], alone.tokens[0], atol=2e-6)
        np.testing.assert_allclose(batch.deepstack[0, row, :own], alone.deepstack[0, 0], atol=2e-6)
    assert not np.any(batch.tokens[0, 6:]) and not np.any(batch.tokens[4])  # noqa: PT018
    assert np.isfinite(batch.tokens).all()


def test_a_video_may_be_encoded_as_it_arrives(setting):
    """Chunks of frames, padded to the rows of one compiled program, give what the whole video gives."""
    apply, items, patches, grids = setting
    whole = apply(patches, grids)
    video, (_, h, w) = items[1]
    for frame in range(2):
        part = frame_rows([(video[4 * frame : 4 * frame + 4], (1, h, w))], rows=5, length=28)
        np.testing.assert_array_equal(apply(*part).tokens[0, :1], whole.tokens[1 + frame, :1])


def test_padding_is_not_seen(setting):
    apply, _, patches, grids = setting
    changed = patches.copy()
    changed[0, 24:] = 7.0
    np.testing.assert_array_equal(apply(changed, grids).tokens[0], apply(patches, grids).tokens[0])


def test_coordinates_follow_the_blocks():
    rows, columns = patch_coordinates(np.array([[2, 4], [4, 2]]), 8, 2)
    assert rows.tolist() == [[0, 0, 1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 3, 3]]
    assert columns.tolist() == [[0, 1, 0, 1, 2, 3, 2, 3], [0, 1, 0, 1, 0, 1, 0, 1]]


def test_the_table_is_stretched_over_the_frame():
    """A table whose entries are linear in row and column gives the same plane on any grid, corners on corners."""
    side = 5
    table = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    grids = np.array([[4, 6], [10, 2], [1, 4]])
    rows, columns = patch_coordinates(grids, 24, 1)
    found = np.asarray(resampled_positions(table, grids, rows, columns))
    for row, (h, w) in enumerate(grids):
        y, x = np.divmod(np.arange(h * w), w)
        expected = np.stack([y * (side - 1) / max(h - 1, 1), x * (side - 1) / max(w - 1, 1)], -1)
        np.testing.assert_allclose(found[row, : h * w], expected, atol=1e-5)


def test_wrong_values_are_named(setting):
    _, _, patches, grids = setting
    with pytest.raises(ValueError, match=r"accepted is \[rows, a multiple of 4, 24\]"):
        VisionEncoder(CONFIG).init(jax.random.key(0), patches[:, :27], grids)
    with pytest.raises(ValueError, match=r"deepstack_layers = \(2,\): accepted is increasing numbers of layers in 0"):
        dataclasses.replace(CONFIG, deepstack_layers=(2,))
    with pytest.raises(ValueError, match="6 channels a head: accepted is a multiple of 4"):
        dataclasses.replace(CONFIG, encoder=dataclasses.replace(CONFIG.encoder, model_dim=12))
