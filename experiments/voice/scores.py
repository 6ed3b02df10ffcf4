"""What measured sentences add up to: word errors, likeness, and whether style goes where it is told to go."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from experiments.metrics import bootstrap_interval, bootstrap_mean
from qomni_jax.talker.style import OPPOSITES


def conditions(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Word errors and likeness in every way of saying."""
    found = {}
    for name in dict.fromkeys(row["condition"] for row in rows):
        own = [row for row in rows if row["condition"] == name]
        found[name] = {
            "sentences": len(own),
            "wer": dataclasses.asdict(bootstrap_interval([_Errors.of(r) for r in own])),
        }
        for measure in ("similarity", "less_similar", "less_similar_held_out"):
            shares: dict[str, list[float]] = {}
            for row in own:
                shares.setdefault(row["voice"], []).append(row[measure])
            found[name][measure] = by_voice(shares)
    return found


def styles(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In what share of cases a described attribute moves as it is told to: between its two words, and by each word from
    the same sentence without it (with a reference: the clone). NaN does not count as moved."""
    plain = {
        (row["target"], row["has_reference"]): row for row in rows if not row["style"] and row["condition"] != "natural"
    }
    found: dict[str, Any] = {}
    for condition in dict.fromkeys(row["condition"] for row in rows if row["style"]):
        said = {(row["target"], row["style"]): row for row in rows if row["condition"] == condition}
        targets = list(dict.fromkeys(target for target, _ in said))
        for attribute, (less, more) in OPPOSITES.items():
            pairs = [(said[t, less][attribute], said[t, more][attribute]) for t in targets]
            entry: dict[str, Any] = {
                "cases": len(pairs),
                "opposites": dataclasses.asdict(bootstrap_mean([float(low < high) for low, high in pairs])),
                less: float(np.nanmedian([low for low, _ in pairs])),
                more: float(np.nanmedian([high for _, high in pairs])),
            }
            if all((t, True) in plain for t in targets) and condition != "style":
                moved = {
                    less: [float(low < plain[t, True][attribute]) for t, (low, _) in zip(targets, pairs, strict=True)],
                    more: [
                        float(high > plain[t, True][attribute]) for t, (_, high) in zip(targets, pairs, strict=True)
                    ],
                }
                entry["from_clone"] = {w: dataclasses.asdict(bootstrap_mean(v)) for w, v in moved.items()}
            found.setdefault(condition, {})[attribute] = entry
    return found


def lines(scores: dict[str, Any]) -> list[str]:
    """For people."""
    text = []
    for name, figures in scores["conditions"].items():
        wer, every, held_out = (figures[key] for key in ("wer", "less_similar", "less_similar_held_out"))
        text.append(
            f"{name:18s} {figures['sentences']:4d} sentences: WER {percent(wer)}; closer to the reference than to "
            f"{percent(every)} of other voices ({percent(held_out)} of held-out ones); "
            f"similarity {figures['similarity']['mean']:.2f}"
        )
    for condition, attributes in scores["styles"].items():
        for attribute, figures in attributes.items():
            less, more = OPPOSITES[attribute]
            line = (
                f"{condition:18s} {attribute}: {less} {figures[less]:.1f}, {more} {figures[more]:.1f} (medians); "
                f"in the right order in {percent(figures['opposites'])} of {figures['cases']}"
            )
            for word, moved in figures.get("from_clone", {}).items():
                line += f"; {word} against the clone {percent(moved)}"
            text.append(line)
    return text


@dataclasses.dataclass(frozen=True)
class _Errors:
    """`metrics.Scored`."""

    id: int
    words: int
    substitutions: int
    deletions: int
    insertions: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> "_Errors":
        counts = (row[name] for name in ("words", "substitutions", "deletions", "insertions"))
        return cls(row["target"], *counts)


def by_voice(values: dict[str, list[float]]) -> dict[str, float]:
    """The mean over voices, with an interval from drawing voices: sentences of one voice are not independent."""
    return dataclasses.asdict(bootstrap_mean([float(np.mean(own)) for own in values.values()]))


def percent(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.1%} [{interval['low']:.1%}, {interval['high']:.1%}]"


def without_nan(value: Any) -> Any:
    """The same for JSON, which has no NaN: None."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
