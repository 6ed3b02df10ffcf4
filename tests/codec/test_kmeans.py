"""k-means and PCA, the closed-form initialisation of the quantiser."""

import numpy as np
import pytest

from qomni_jax.codec.kmeans import kmeans, nearest, principal_components, residual_kmeans


def points(count: int = 400, dim: int = 5) -> np.ndarray:
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 4, (7, dim))
    return (centres[generator.integers(0, 7, count)] + generator.normal(0, 0.3, (count, dim))).astype(np.float32)


def test_nearest_equals_brute_force():
    data, centroids = points(), points(9)
    squared = ((data[:, None] - centroids[None]) ** 2).sum(-1)
    labels, distances = nearest(data, centroids)
    np.testing.assert_array_equal(labels, squared.argmin(1))
    # Expanding the square loses digits of distances that are small beside the norms.
    np.testing.assert_allclose(distances, squared.min(1), atol=1e-3)


def test_iterations_lower_the_error():
    data = points()
    errors = [nearest(data, kmeans(data, 7, iterations, seed=1))[1].mean() for iterations in (0, 1, 10)]
    assert errors[0] > errors[1] >= errors[2]


def test_same_seed_gives_the_same_centroids():
    data = points()
    np.testing.assert_array_equal(kmeans(data, 7, 3, seed=5), kmeans(data, 7, 3, seed=5))
    assert not np.array_equal(kmeans(data, 7, 3, seed=5), kmeans(data, 7, 3, seed=6))


def test_an_empty_cluster_restarts_at_a_far_point():
    data = np.concatenate([np.zeros((50, 2)), [[9.0, 9.0]]]).astype(np.float32)
    centroids = kmeans(data, 2, 3, seed=0)
    assert sorted(centroids[:, 0].round(3).tolist()) == [0.0, 9.0]


def test_every_level_lowers_the_residual():
    data = points()
    codebooks = residual_kmeans(data, 4, 4, 5, seed=0)
    errors, residual = [], data
    for codebook in codebooks:
        residual = residual - codebook[nearest(residual, codebook)[0]]
        errors.append((residual**2).mean())
    assert codebooks.shape == (4, 4, 5)
    assert errors == sorted(errors, reverse=True)


def test_components_are_orthonormal_and_ordered():
    data = points(dim=6)
    mean, components = principal_components(data, 4)
    np.testing.assert_allclose(components.T @ components, np.eye(4), atol=1e-5)
    spread = ((data - mean) @ components).var(0)
    assert (np.diff(spread) <= 0).all()


def test_all_components_lose_nothing():
    data = points()
    mean, components = principal_components(data, 5)
    np.testing.assert_allclose((data - mean) @ components @ components.T + mean, data, atol=1e-4)


def test_too_few_points_are_refused():
    with pytest.raises(ValueError, match="3 points: accepted is at least num_clusters = 4"):
        kmeans(points(3), 4, 1, 0)
