"""Configuration dataclasses out of what JSON keeps of them (`dataclasses.asdict` is the way there)."""

from collections.abc import Mapping
import dataclasses
import types
import typing
from typing import Any


def from_json(kind: Any, value: Any) -> Any:
    """A value of the type `kind`: a dataclass of dataclasses, tuples and plain values; a field that is absent has its
    default.

    Raises ValueError or TypeError, naming the field, for one that is unknown, absent without a default, or holds what
    the dataclass does not accept.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{kind.__name__} = {value!r}: accepted is an object")
        hints = typing.get_type_hints(kind)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise ValueError(f"unknown field {min(unknown)}: accepted in {kind.__name__} are {', '.join(hints)}")
        return kind(**{name: from_json(hints[name], item) for name, item in value.items()})
    if isinstance(kind, types.UnionType) and value is not None:
        return from_json(next(option for option in kind.__args__ if option is not type(None)), value)
    return tuple(value) if typing.get_origin(kind) is tuple and isinstance(value, list) else value
