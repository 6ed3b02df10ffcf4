"""Typed access to the fields of a released config.json."""

from collections.abc import Mapping
from typing import Any


class Fields:
    """Typed access to the fields of a config; an absent one without a default is an error that names it."""

    def __init__(self, values: Mapping[str, Any]):
        self.values = values

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        return self._get(name, default, (int,), "a whole number")

    def positive(self, name: str, default: int | None = None) -> int:
        """A whole number from 1 on."""
        value = self.whole(name, default)
        if value < 1:
            raise ValueError(f"{name} = {value}: accepted is 1 or more")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Any number."""
        return float(self._get(name, default, (int, float), "a number"))

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise ValueError(f"{name} = {value!r}: accepted is true or false")
        return value

    def require(self, **accepted: Any) -> None:
        """Raises ValueError for a field that is present and says something else: it would load and be wrong."""
        for name, value in accepted.items():
            if self.values.get(name, value) not in (value, None):
                raise ValueError(f"{name} = {self.values[name]!r}: accepted is {value!r}")

    def _get(self, name: str, default: Any, types: tuple[type, ...], accepted: str) -> Any:
        value = self.values.get(name)
        value = default if value is None else value
        if value is None:
            raise ValueError(f"{name} is absent: accepted is {accepted}")
        if isinstance(value, bool) or not isinstance(value, types):
            raise ValueError(f"{name} = {value!r}: accepted is {accepted}")
        return value
