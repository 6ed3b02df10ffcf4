"""Released weights into our arrays, tensor by tensor."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qomni_jax.interop.key_map import Rule, leaf_shapes
from qomni_jax.interop.plan import Plan, leaf_dtypes
from qomni_jax.interop.released import Reader, Released
from qomni_jax.interop.safetensors_file import DTYPES
from qomni_jax.storage.arrays import Target, flat, nested
from qomni_jax.storage.errors import CheckpointError

BLOCK_BYTES = 4 << 20
# The bits of the exponent, all set in NaN and in infinities and in nothing else.
_EXPONENTS = {"F32": (np.uint32, 0x7F800000), "BF16": (np.uint16, 0x7F80), "F16": (np.uint16, 0x7C00)}


def load_parameters(
    released: Released, plan: Plan, *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of `LanguageModel(plan.config)`, with `plan` as `make_plan` gives it; otherwise `load_tensors`.

    Raises CheckpointError as `load_tensors`, and for a repeated head that is not the embedding.
    """
    require_equal_head(released, plan)
    return load_tensors(released, plan.rules, dtype=dtype, shardings=shardings)


def require_equal_head(released: Released, plan: Plan) -> None:
    """Raises CheckpointError for a repeated head that is not the embedding."""
    if plan.repeated_head:
        with released.open() as reader:
            _require_equal(reader, released, f"{plan.layout.prefix}embed_tokens.weight", plan.layout.head)


def load_tensors(
    released: Released, rules: Mapping[str, Rule], *, dtype: Any = None, shardings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The tree of our arrays that the rules fill, with tensors that `plan.require_tensors` accepts.

    Beside the arrays themselves the host holds a block of `BLOCK_BYTES`, or one group of a rule where that is more, and
    its transpose, whatever the tensors' sizes.

    Args:
      dtype: of all parameters; None keeps the types of the files.
      shardings: a tree like the parameters, such as `parallel.rules` gives; None puts all on the first device.

    Raises CheckpointError: a weight that is not a finite number, a file that ends early.
    """
    types = leaf_dtypes(rules, released.tensors)
    places = flat(shardings) if shardings is not None else {}
    targets = {
        leaf: Target(shape, dtype or DTYPES[types[leaf]], places.get(leaf))
        for leaf, shape in leaf_shapes(rules).items()
    }
    with released.open() as reader:
        for name, rule in rules.items():
            stored = released.tensors[name].dtype
            for first, last in block_ranges(rule, DTYPES[stored].itemsize):
                rows = reader.read_rows(name, first * rule.group_rows, last * rule.group_rows)
                _require_finite(released, name, stored, rows)
                for leaf, place, block in rule.split(first, rows):
                    targets[leaf].write(place, block)
    return nested({leaf: target.finish() for leaf, target in targets.items()})


def block_ranges(rule: Rule, itemsize: int) -> list[tuple[int, int]]:
    """The groups of a released tensor cut into runs of about `BLOCK_BYTES`."""
    step = max(1, BLOCK_BYTES // (rule.group_size * itemsize))
    return [(first, min(first + step, rule.groups)) for first in range(0, rule.groups, step)]


def _require_finite(released: Released, name: str, dtype: str, rows: np.ndarray) -> None:
    unsigned, exponent = _EXPONENTS[dtype]
    if np.any(rows.view(unsigned) & unsigned(exponent) == exponent):
        raise CheckpointError(f"{released.source}: {name}: NaN or infinite: accepted are finite weights")


def _require_equal(reader: Reader, released: Released, name: str, other: str) -> None:
    """Two tensors of one shape hold the same numbers; tensors of different shapes do not."""
    info = released.tensors[name]
    equal = info[:2] == released.tensors[other][:2]
    step = max(1, BLOCK_BYTES * info.shape[0] // (info.size * DTYPES[info.dtype].itemsize))
    for first in range(0, info.shape[0], step) if equal else ():
        last = min(first + step, info.shape[0])
        equal = equal and np.array_equal(reader.read_rows(name, first, last), reader.read_rows(other, first, last))
    if not equal:
        raise CheckpointError(
            f"{released.source}: {other} differs from {name}: accepted is an equal one, or none (the config ties them)"
        )
