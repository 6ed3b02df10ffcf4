"""TPU chips and the slices that are made of them."""

from collections.abc import Sequence
import dataclasses
import math

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of one chip.

    Attributes:
      peak_flops: bfloat16 operations a second.
      hbm_bytes, hbm_bandwidth: memory that a program may use, as the compiler states it, and bytes a second.
      link_bandwidth: bytes a second over one link in one direction.
      torus_dims: dimensions of the interconnect, two links each.
      clock_hz: of the compiler's cycle estimates, where it can be derived (peak over matrix units); else None.
    """

    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    torus_dims: int
    clock_hz: float | None = None


# Peak, memory and interconnect: cloud.google.com/tpu/docs/{v5e,v5p,v6e}, "key chip specifications". Interconnect
# bandwidth is given there for both directions of all links together (v5e 400, v5p 1200, v6e 800 GB/s): a link carries
# that over twice the number of links. Usable memory: the limit in the compiler's out-of-memory message.
CHIPS = {
    "v5e": Chip(197e12, int(15.75 * GIB), 819e9, 50e9, 2, 1.5e9),
    "v5p": Chip(459e12, int(95.74 * GIB), 2765e9, 100e9, 3, 1.75e9),
    "v6e": Chip(918e12, int(31.25 * GIB), 1640e9, 100e9, 2),
}


# Shapes in which Cloud TPU offers slices: the same pages, "configurations". `accelerator_of` in common.sh has them too.
_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16", "16x16x24")
SHAPES = {"v5e": _FLAT, "v5p": ("2x2x1", "2x2x2", "2x4x4", *_CUBES), "v6e": _FLAT}


@dataclasses.dataclass(frozen=True)
class Slice:
    """A slice such as `v5p:4x4x4`."""

    family: str
    dims: tuple[int, ...]

    @classmethod
    def parse(cls, name: str) -> "Slice":
        """Raises ValueError for a name that is not `<family>:<shape>` with a shape out of `SHAPES`."""
        family, _, shape = name.partition(":")
        if family not in CHIPS:
            raise ValueError(f"--topology={name}: accepted is one of {', '.join(CHIPS)} and a shape, such as v5e:16x16")
        if shape not in SHAPES[family]:
            raise ValueError(f"--topology={name}: accepted shapes of {family} are {', '.join(SHAPES[family])}")
        return cls(family, tuple(int(d) for d in shape.split("x")))

    @property
    def name(self) -> str:
        return f"{self.family}:{'x'.join(map(str, self.dims))}"

    @property
    def chip(self) -> Chip:
        return CHIPS[self.family]

    @property
    def chips(self) -> int:
        return math.prod(self.dims)

    def wraps(self, dim: int) -> bool:
        """Whether the last chip along a dimension is linked to the first.

        v5p: slices of whole 4x4x4 cubes are tori. v5e, v6e: along a full pod's 16 chips.
        """
        if self.family == "v5p":
            return all(d % 4 == 0 for d in self.dims)
        return self.dims[dim] == 16

    def links(self, coordinates: Sequence[Sequence[int]]) -> int:
        """Links of a chip that serve a group of chips, given their coordinates: two along a ring, one along a line."""
        total = 0
        for dim, size in enumerate(self.dims):
            extent = len({c[dim] for c in coordinates})
            if extent > 1:
                total += 2 if extent == size and self.wraps(dim) and size > 2 else 1
        return max(total, 1)
