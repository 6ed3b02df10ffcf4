"""What the commands that build datasets share: their errors in one line, and what they say at the end."""

from collections.abc import Callable
import sys
import time
from typing import Any

from absl import logging


def build_or_verify(name: str, build: Callable[[], tuple[Any, str]], summary: Callable[[Any], str]) -> None:
    """Prints the `summary` of the dataset that `build` gives, with what was done to it, and how long that took.

    A ValueError or RuntimeError of `build` and an interruption end the process with one line that starts with `name`.
    """
    logging.set_verbosity(logging.WARNING)
    start = time.monotonic()
    try:
        dataset, done = build()
    except (ValueError, RuntimeError) as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; run it again to continue")
    print(summary(dataset))
    print(f"{done} {dataset.directory} in {time.monotonic() - start:.0f} s")


def verified(dataset: Any) -> tuple[Any, str]:
    """A dataset whose checksums are right; raises as its `verify`."""
    dataset.verify()
    return dataset, "verified"
