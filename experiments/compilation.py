"""Compiled programs, kept in the workdir."""

from pathlib import Path

import jax


def use_compilation_cache(workdir: Path) -> None:
    """Compiled programs are kept in the workdir: runs with the same shapes share them."""
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    # XLA's own caches would put the directory's path into the key of every program: a moved workdir would find none.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
