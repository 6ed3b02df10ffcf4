"""What an optimiser step takes and gives back."""

from typing import Any, NamedTuple

from jax import Array


class TrainState(NamedTuple):
    """Everything that a checkpoint holds; `step` counts optimiser steps taken."""

    step: Array
    params: Any
    opt_state: Any
