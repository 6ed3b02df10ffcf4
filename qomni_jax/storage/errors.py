"""The error of everything that reads or writes a checkpoint."""

from collections.abc import Iterable, Mapping


class CheckpointError(ValueError):
    """A checkpoint, config.json or golden file is not what it should be; one line names what is wrong."""


def listing(kinds: Mapping[str, Iterable[str]], limit: int = 5) -> str:
    """`missing: a, b; extra: c, d, e and 2 more` of the kinds that are not empty."""
    parts = []
    for kind, items in kinds.items():
        names = list(items)
        if names:
            more = f" and {len(names) - limit} more" if len(names) > limit else ""
            parts.append(f"{kind}: {', '.join(names[:limit])}{more}")
    return "; ".join(parts)
