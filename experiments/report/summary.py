"""The figures of `report.json`: rates by arm, set and decoding, with intervals, and paired differences from ARIA."""

from collections.abc import Iterable, Sequence
import dataclasses
from typing import Any

import numpy as np

from experiments.metrics import bootstrap_interval, paired_difference, word_error_rate
from experiments.report.inputs import DECODINGS, SETS, Ceiling, Item, Result, Study
from experiments.report.records import ReportError

LAG_BIN_SECONDS = 1.0
_SPEECH = ("first_audio_frames", "first_audio_text_tokens", "first_audio_ms", "real_time_factor")


def summarise(study: Study) -> dict[str, Any]:
    """The contents of `report.json`: rates as fractions, intervals 95 % bootstrap over sentences, seeds pooled."""
    arms = study.arms()
    schemes = {arm: _scheme(results) for arm, results in arms.items()}
    baseline = baseline_arm(study)
    others = [arm for arm in arms if arm != baseline] if baseline else []
    return {
        "title": study.run.title,
        "baseline": baseline,
        "schemes": schemes,
        "paired": {
            arm: _paired(arms[arm], arms[baseline], schemes[arm], schemes[baseline]) for arm in others if baseline
        },
        "codec": _codec(study.ceiling),
        "judge": _judge(study.ceiling),
        "equal_cpu": _equal_cpu(arms),
        "corpus": study.ceiling.corpus,
        "run": dataclasses.asdict(study.run),
        "finished_runs": len(study.results),
    }


def baseline_arm(study: Study) -> str | None:
    """The arm that differences are taken from: `aria`, or the first arm of the ARIA scheme, or None without one."""
    arms = study.arms()
    if "aria" in arms:
        return "aria"
    return next((arm for arm, results in arms.items() if results[0].scheme == "aria"), None)


def pooled(results: Iterable[Result], name: str, decoding: str) -> list[Item]:
    """The sentences of a set under one decoding, of all runs together."""
    return [item for result in results for item in result.sets.get(name, {}).get(decoding, ())]


def cell(items: Sequence[Item]) -> dict[str, Any]:
    """One cell of the table: error rates are fractions of reference words, early stops and runaways of sentences."""
    words, sentences = sum(item.words for item in items), len(items)
    timed = [item for item in items if item.seconds is not None and item.reference_seconds]
    return {
        "wer": dataclasses.asdict(bootstrap_interval(items)),
        **{
            name: sum(getattr(item, name) for item in items) / words
            for name in ("substitutions", "deletions", "insertions", "repeats")
        },
        "early_stops": sum(item.early_stop for item in items) / sentences,
        "runaways": sum(item.runaway for item in items) / sentences,
        "duration_ratio": _ratio(sum(i.seconds or 0.0 for i in timed), sum(i.reference_seconds or 0.0 for i in timed)),
        "sentences": sentences,
        "words": words,
    }


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _scheme(results: Sequence[Result]) -> dict[str, Any]:
    first = results[0]
    sets = {
        name: {decoding: cell(items) for decoding in DECODINGS if (items := pooled(results, name, decoding))}
        for name in SETS
    }
    sets = {name: cells for name, cells in sets.items() if cells}
    decoding = min(sets["short"], key=lambda name: sets["short"][name]["wer"]["mean"])
    headline = sets["short"][decoding]
    return {
        "label": first.label,
        "scheme": first.scheme,
        "decoding": decoding,
        "wer": headline["wer"],
        **{name: headline[name] for name in ("substitutions", "deletions", "insertions")},
        "long_wer": sets.get("long", {}).get(decoding, {}).get("wer"),
        **{name: _mean(result.speech.get(name) for result in results) for name in _SPEECH},
        "train_seconds": _mean(result.train_seconds for result in results),
        "train_cpu_seconds": _mean(result.train_cpu_seconds for result in results),
        "parameters": first.parameters,
        "steps": first.steps,
        "options": first.options,
        "seeds": [result.seed for result in results],
        "sets": sets,
        "per_seed": {
            str(result.seed): {
                name: {decoding: word_error_rate(items) for decoding, items in decodings.items()}
                for name, decodings in result.sets.items()
            }
            for result in results
        },
        "lag": lag_over_time(pooled(results, "long" if "long" in sets else "short", decoding)),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def lag_over_time(items: Iterable[Item]) -> list[dict[str, float]]:
    """Quartiles of the lag between text and voice by second of the audio; seconds with under 5 words are left out."""
    pairs = np.array([pair for item in items for pair in item.lag], float).reshape(-1, 2)
    bins = np.floor(pairs[:, 0] / LAG_BIN_SECONDS)
    found = []
    for number in np.unique(bins):
        lags = pairs[bins == number, 1]
        if len(lags) >= 5:
            low, median, high = np.quantile(lags, [0.25, 0.5, 0.75])
            middle = (number + 0.5) * LAG_BIN_SECONDS
            found.append({"time": middle, "low": low, "median": median, "high": high, "words": len(lags)})
    return [{name: float(value) for name, value in row.items()} for row in found]


def _paired(
    results: Sequence[Result], baseline: Sequence[Result], ours: dict[str, Any], theirs: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Word error rate less the baseline's, by set: under each decoding, and `best`, each at its own better decoding."""
    shared = {result.seed for result in results} & {result.seed for result in baseline}
    if shared:
        results = [result for result in results if result.seed in shared]
        baseline = [result for result in baseline if result.seed in shared]
    found: dict[str, dict[str, Any]] = {}
    for name in SETS:
        pairs = {decoding: (decoding, decoding) for decoding in DECODINGS}
        pairs["best"] = (ours["decoding"], theirs["decoding"])
        for key, (decoding, other) in pairs.items():
            first, second = pooled(results, name, decoding), pooled(baseline, name, other)
            if first and second:
                try:
                    difference = paired_difference(first, second)
                except ValueError as error:
                    raise ReportError(f"arms {results[0].arm} and {baseline[0].arm}, set {name}: {error}") from None
                found.setdefault(name, {})[key] = {
                    **dataclasses.asdict(difference),
                    "excludes_zero": difference.excludes_zero,
                    "seeds": sorted(shared),
                }
    return found


def _stage(ceiling: Ceiling, stage: str) -> dict[str, Any]:
    return {name: cell(ceiling.stages[stage][name]) for name in SETS if name in ceiling.stages[stage]}


def _codec(ceiling: Ceiling) -> dict[str, Any]:
    resynthesis, griffin_lim = _stage(ceiling, "resynthesis"), _stage(ceiling, "griffin_lim")
    return {
        "resynthesis_wer": resynthesis["short"]["wer"]["mean"],
        "griffin_lim_wer": griffin_lim["short"]["wer"]["mean"] if "short" in griffin_lim else None,
        "stoi": ceiling.stoi.get("decoder"),
        "griffin_lim_stoi": ceiling.stoi.get("griffin_lim"),
        "sets": {"resynthesis": resynthesis, "griffin_lim": griffin_lim},
        "settings": ceiling.codec,
    }


def _judge(ceiling: Ceiling) -> dict[str, Any]:
    clean = _stage(ceiling, "clean")
    return {**ceiling.judge, "clean_wer": clean["short"]["wer"]["mean"], "sets": clean}


def _equal_cpu(arms: dict[str, list[Result]]) -> dict[str, Any] | None:
    """Every arm's curve at the last measurement within the CPU time of the quickest run; None without curves."""
    runs = [result for results in arms.values() for result in results]
    if not all(result.curve for result in runs):
        return None
    budget = min(result.curve[-1].cpu_seconds for result in runs)
    found = {}
    for arm, results in arms.items():
        reached = [[point for point in result.curve if point.cpu_seconds <= budget] for result in results]
        last = [points[-1] for points in reached if points]
        found[arm] = {
            "step": _mean(point.step for point in last),
            "wer": {name: rate for name in SETS if (rate := _mean(point.wer.get(name) for point in last)) is not None},
        }
    return {"cpu_seconds": budget, "schemes": found}
