"""JSON files read at the border: every field typed, every error one line that names file and value."""

from collections.abc import Mapping
import json
import math
import pathlib
from typing import Any


class ReportError(ValueError):
    """A file of the work directory is missing or not what the report reads; one line that names the file."""


_KINDS = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file; run the study to its end first") from None
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: not readable as JSON ({error}); delete it and run the study again") from None


class Record:
    """A JSON object that knows where it stands, to take typed fields from."""

    def __init__(self, value: Any, where: str):
        if not isinstance(value, Mapping):
            raise ReportError(f"{where}: is {type(value).__name__}; accepted: a JSON object")
        self._value, self.where = value, where

    def get(self, name: str, kind: type) -> Any:
        if name not in self._value:
            raise ReportError(f"{self.where}: no field {name!r}; accepted: {_KINDS[kind]}")
        value = self._value[name]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ReportError(f"{self.where}: {name} is {value!r}; accepted: {_KINDS[kind]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ReportError(f"{self.where}: {name} is {value!r}; accepted: a finite number")
        return value

    def optional(self, name: str, kind: type, default: Any = None) -> Any:
        return default if self._value.get(name) is None else self.get(name, kind)

    def at(self, name: str) -> "Record":
        return Record(self.get(name, dict), f"{self.where}: {name}")
