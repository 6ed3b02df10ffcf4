"""Checks shared by every configuration dataclass: one clear error with the field, its value and what is accepted."""

from collections.abc import Collection
import dataclasses
import types
import typing
from typing import Any

DTYPES = ("float32", "bfloat16", "float64")  # of activations


def check_types(config: Any) -> None:
    """Raises TypeError when a dataclass field holds a value that its annotation does not accept.

    Integers are accepted where floats are expected; booleans are not accepted as numbers.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not _accepts(hints[field.name], value):
            raise TypeError(
                f"{type(config).__name__}.{field.name} = {value!r}: accepted is {_describe(hints[field.name])}"
            )


def require(condition: bool, config: Any, field: str, accepted: str) -> None:
    """Raises ValueError naming `config.field`, its value and what is accepted, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{type(config).__name__}.{field} = {getattr(config, field)!r}: accepted is {accepted}")


def require_one_of(config: Any, field: str, accepted: Collection[str]) -> None:
    """Raises ValueError unless `config.field` is one of `accepted`."""
    require(getattr(config, field) in accepted, config, field, "one of " + ", ".join(sorted(accepted)))


def require_positive(config: Any, *fields: str) -> None:
    """Raises ValueError for the first of `fields` that is not greater than zero."""
    for field in fields:
        require(getattr(config, field) > 0, config, field, "a number greater than 0")


def _accepts(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(option, value) for option in typing.get_args(hint))
    if origin is tuple:
        args = typing.get_args(hint)
        if not isinstance(value, (tuple, list)):
            return False
        if len(args) == 2 and args[1] is Ellipsis:
            return all(_accepts(args[0], item) for item in value)
        return len(args) == len(value) and all(_accepts(a, v) for a, v in zip(args, value, strict=True))
    if origin is not None:
        return isinstance(value, origin)
    if hint is Any:
        return True
    if hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
