"""What the study asks, and what its data answer: sentences made from `report.json` alone."""

from typing import Any

SET_NAMES = {
    "short": "short sentences",
    "long": "long sentences",
    "fast": "fast speech",
    "slow": "slow speech",
    "voice": "unseen voices",
}

CLAIM = (
    "Hypothesis under test: interleaving text and speech under ARIA's rule (in any prefix, no more speech per text "
    "token than in "
    "the utterance as a whole) gives fewer word errors than a dual-track or a fixed-rate stream, with the same model "
    "size, data, "
    "number of steps and judge. The study can contradict it: a difference counts only where its 95 % interval "
    "excludes zero."
)


def percent(rate: float | None, digits: int = 1) -> str:
    """0.1234 -> `12.3 %`, None -> a dash."""
    return "–" if rate is None else f"{100 * rate:.{digits}f} %"


def points(difference: dict[str, Any]) -> str:
    """A paired difference in percentage points with its interval."""
    mean, low, high = (100 * difference[name] for name in ("mean", "low", "high"))
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"


def verdict(report: dict[str, Any]) -> list[str]:
    """A sentence for each arm compared, then one for the claim as a whole; first of all, whether runs are missing."""
    finished, planned = report["finished_runs"], report["run"]["runs"]
    missing = [f"Unfinished: {finished} of {planned} runs are there."] if finished < planned else []
    return missing + _compared(report)


def _compared(report: dict[str, Any]) -> list[str]:
    schemes, baseline = report["schemes"], report["baseline"]
    if baseline is None or not report["paired"]:
        return ["No verdict: the study has no ARIA arm and another arm to compare."]
    name = schemes[baseline]["label"]
    sentences = []
    supported = {}
    for arm, sets in report["paired"].items():
        best = {key: rows["best"] for key, rows in sets.items() if "best" in rows}
        fewer = [key for key, row in best.items() if row["low"] > 0]
        more = [key for key, row in best.items() if row["high"] < 0]
        open_ = [key for key in best if key not in fewer and key not in more]
        parts = []
        if fewer:
            parts.append(f"{name} makes fewer word errors on {_list(fewer, best)}")
        if more:
            parts.append(f"{name} makes more word errors on {_list(more, best)}")
        if open_:
            parts.append(f"no difference is shown on {_list(open_, best)}")
        sentences.append(f"Against {schemes[arm]['label']}: {'; '.join(parts)}.")
        if schemes[arm]["scheme"] != schemes[baseline]["scheme"]:
            supported[arm] = (fewer, more, open_)
    sentences.append(_overall(supported, schemes))
    seeds = {arm: len(scheme["seeds"]) for arm, scheme in schemes.items()}
    if min(seeds.values()) == 1:
        alone = [schemes[arm]["label"] for arm, count in seeds.items() if count == 1]
        sentences.append(
            f"Trained once only: {', '.join(alone)}; how far another seed would move these figures is not known."
        )
    return sentences


def _list(keys: list[str], rows: dict[str, Any]) -> str:
    return ", ".join(f"{SET_NAMES[key]} ({points(rows[key])})" for key in keys)


def _overall(supported: dict[str, tuple[list[str], list[str], list[str]]], schemes: dict[str, Any]) -> str:
    if not supported:
        return "The claim is not tested: every other arm is a variant of ARIA itself."
    everywhere = [arm for arm, (fewer, more, open_) in supported.items() if fewer and not more and not open_]
    against = [arm for arm, (fewer, more, _) in supported.items() if more and not fewer]
    if len(everywhere) == len(supported):
        return "The claim is supported on every set against every other scheme."
    if not any(fewer for fewer, _, _ in supported.values()):
        contrary = ", and on some sets the data contradict it" if any(more for _, more, _ in supported.values()) else ""
        return f"The claim is not supported: no interval lies on ARIA's side{contrary}."
    parts = []
    for arm, (fewer, more, open_) in supported.items():
        label = schemes[arm]["label"]
        if arm in everywhere:
            parts.append(f"supported against {label} on every set")
        elif arm in against:
            parts.append(f"contradicted against {label} on {_names(more)}")
        elif fewer:
            rest = (f", not on {_names(open_)}" if open_ else "") + (
                f", contradicted on {_names(more)}" if more else ""
            )
            parts.append(f"supported against {label} on {_names(fewer)}{rest}")
        else:
            parts.append(f"not supported against {label}")
    return f"The claim is supported in part: {'; '.join(parts)}."


def _names(keys: list[str]) -> str:
    return " and ".join(
        [", ".join(SET_NAMES[key] for key in keys[:-1]), SET_NAMES[keys[-1]]] if keys[1:] else [SET_NAMES[keys[0]]]
    )


def limits(report: dict[str, Any]) -> list[str]:
    """What the figures do not show, with the numbers of this study put in."""
    clean, resynthesis = report["judge"]["clean_wer"], report["codec"]["resynthesis_wer"]
    seeds = sorted({len(scheme["seeds"]) for scheme in report["schemes"].values()})
    return [
        "Speech is synthetic, of a closed list of words in few voices; small models trained for minutes. Nothing "
        "here shows how "
        "the schemes compare at full size, on natural speech, or in other languages.",
        f"The judge errs too: {percent(clean)} on clean short sentences and {percent(resynthesis)} after the codec. "
        f"It recognises a "
        "closed list of words and does not judge naturalness; nobody listened as part of the measurement.",
        f"Intervals are over sentences, with {' or '.join(map(str, seeds))} training seed(s) pooled; they do not "
        f"cover the spread "
        "between seeds, which the table of seeds shows.",
        "The better of two decodings is chosen on the short test sentences themselves, for every arm alike.",
        "Arms share data order and steps, not tokens: an interleaved stream is longer, hence the curves at equal CPU "
        "time.",
        "The sets are compared one by one, without a correction for making several comparisons.",
    ]
