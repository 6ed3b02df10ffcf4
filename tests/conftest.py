"""Settings that every test shares: the platform, float32 matmuls, a compilation cache, repeatable property tests."""

from collections.abc import Iterator
import os
import pathlib
import tempfile

# A run that asks for an accelerator (`JAX_PLATFORMS=cuda pytest -m device`) keeps it; every other run is a CPU run.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Nearly all of a test's time goes into compiling programs that run once: LLVM need not polish them.
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
# Child processes inherit the cache as well: tests with several processes compile the same programs.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(
        pathlib.Path(tempfile.gettempdir()) / f"qomni-jax-test-cache-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    ),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

from hypothesis import HealthCheck, settings
import jax
import pytest

# Parity tolerances assume true float32 products; TPUs and recent GPUs would otherwise round the operands.
jax.config.update("jax_default_matmul_precision", "highest")

settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# A compiled program is a few mappings of memory, of which Linux gives a process 65,530 by default; beyond them,
# compiling crashes. A worker that has run half of the suite comes near.
MAPPINGS = pathlib.Path("/proc/self/maps")
MOST_MAPPINGS = 30_000


@pytest.fixture(scope="module", autouse=True)
def room_for_programs() -> Iterator[None]:
    """Forgets compiled programs after a file of tests that has left too many."""
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips `device` tests where JAX sees no accelerator."""
    if not any(item.get_closest_marker("device") for item in items) or jax.default_backend() != "cpu":
        return
    skip = pytest.mark.skip(reason="needs an accelerator; jax.default_backend() is cpu")
    for item in items:
        if item.get_closest_marker("device"):
            item.add_marker(skip)
