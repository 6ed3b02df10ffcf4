"""k-means and PCA in numpy: the initialisation of the residual vector quantiser."""

import numpy as np

_ROWS_PER_BLOCK = 8192


def nearest(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each point, `[N, D]` and `[K, D]` -> labels int64 `[N]`, squared distances float32 `[N]`."""
    labels = np.empty(len(points), np.int64)
    distances = np.empty(len(points), np.float32)
    offsets = np.einsum("kd,kd->k", centroids, centroids)
    for start in range(0, len(points), _ROWS_PER_BLOCK):
        block = points[start : start + _ROWS_PER_BLOCK]
        scores = offsets - 2.0 * (block @ centroids.T)
        chosen = scores.argmin(axis=1)
        labels[start : start + len(block)] = chosen
        best = scores[np.arange(len(block)), chosen] + np.einsum("nd,nd->n", block, block)
        distances[start : start + len(block)] = np.maximum(best, 0.0)
    return labels, distances


def kmeans(points: np.ndarray, num_clusters: int, iterations: int, seed: int) -> np.ndarray:
    """Lloyd's algorithm, `[N, D]` -> centroids float32 `[num_clusters, D]`; deterministic from `seed`.

    Starts from distinct random points; a cluster that loses all its points restarts at one of the points
    farthest from its centroid.

    Raises:
      ValueError: fewer points than clusters.
    """
    if len(points) < num_clusters:
        raise ValueError(f"k-means on {len(points)} points: accepted is at least num_clusters = {num_clusters}")
    points = np.ascontiguousarray(points, np.float32)
    generator = np.random.default_rng(seed)
    centroids = points[generator.choice(len(points), num_clusters, replace=False)].copy()
    for _ in range(iterations):
        labels, distances = nearest(points, centroids)
        counts = np.bincount(labels, minlength=num_clusters)
        used = np.flatnonzero(counts)
        starts = np.cumsum(counts)[used] - counts[used]
        sums = np.add.reduceat(points[np.argsort(labels, kind="stable")], starts, axis=0)
        centroids[used] = sums / counts[used, None]
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            centroids[empty] = points[np.argpartition(distances, -len(empty))[-len(empty) :]]
    return centroids


def principal_components(points: np.ndarray, num_components: int) -> tuple[np.ndarray, np.ndarray]:
    """PCA, `[N, D]` -> mean float32 `[D]`, orthonormal components float32 `[D, num_components]`, largest first."""
    mean = points.mean(axis=0, dtype=np.float64)
    centred = points - mean.astype(np.float32)
    covariance = (centred.T @ centred).astype(np.float64) / len(points)
    _, vectors = np.linalg.eigh(covariance)
    components = vectors[:, ::-1][:, :num_components]
    signs = np.sign(components[np.abs(components).argmax(axis=0), np.arange(num_components)])
    return mean.astype(np.float32), (components * signs).astype(np.float32)


def residual_kmeans(points: np.ndarray, num_levels: int, num_clusters: int, iterations: int, seed: int) -> np.ndarray:
    """k-means on the residual of every level before it, `[N, D]` -> codebooks float32 `[num_levels, num_clusters, D]`.

    Raises:
      ValueError: as `kmeans`.
    """
    residual = np.array(points, np.float32)
    codebooks = []
    for level in range(num_levels):
        centroids = kmeans(residual, num_clusters, iterations, seed + level)
        residual -= centroids[nearest(residual, centroids)[0]]
        codebooks.append(centroids)
    return np.stack(codebooks)
