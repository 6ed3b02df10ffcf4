"""Segments of packed rows: what their ids must satisfy."""

from typing import Any

import jax
import numpy as np


def require_segments_in_order(segment_ids: Any, who: str) -> None:
    """Raises ValueError, which starts with `who`, where ids `[B, T]` decrease along a row; traced ids are not seen."""
    if segment_ids is None or isinstance(segment_ids, jax.core.Tracer):
        return
    falls = np.argwhere(np.diff(np.asarray(segment_ids), axis=1) < 0)
    if len(falls):
        raise ValueError(
            f"{who}: segment_ids decrease after token {falls[0][1]} of row {falls[0][0]}: accepted is ids that never "
            "decrease along a row"
        )
