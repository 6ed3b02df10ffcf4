"""What measured sentences add up to."""

import json

import pytest

from experiments.voice.scores import conditions, lines, styles, without_nan

NAN = float("nan")


def row(target: int, condition: str, style: str = "", *, reference: bool = False, **measured) -> dict:
    errors = {"words": 4, "substitutions": measured.pop("errors", 0), "deletions": 0, "insertions": 0}
    shares = {"similarity": 0.5, "less_similar": measured.pop("share", 1.0), "less_similar_held_out": 0.5}
    figures = {"rate": 180.0, "pitch": 120.0, "level": -24.0, **measured}
    base = {"target": target, "condition": condition, "style": style, "has_reference": reference}
    return {**base, "voice": f"v{target % 2}", **errors, **shares, **figures}


def test_likeness_is_averaged_by_voice_and_words_by_sentence():
    rows = [row(0, "reference", share=1.0), row(1, "reference", share=0.5, errors=4), row(2, "reference", share=0.0)]
    found = conditions(rows)["reference"]
    assert found["sentences"] == 3
    assert found["wer"]["mean"] == pytest.approx(4 / 12)
    assert found["less_similar"]["mean"] == pytest.approx(0.5)  # v0: 1 and 0; v1: one half


def test_style_moves_between_opposites_and_from_the_clone():
    rows = [
        row(0, "no prompt", rate=999.0),
        row(0, "reference", reference=True, rate=180.0),
        row(1, "reference", reference=True, rate=180.0),
        *(row(t, "style + reference", w, reference=True) for t in (0, 1) for w in ("low", "high", "soft", "loud")),
        row(0, "style + reference", "slow", reference=True, rate=120.0),
        row(0, "style + reference", "fast", reference=True, rate=170.0),
        row(1, "style + reference", "slow", reference=True, rate=190.0),
        row(1, "style + reference", "fast", reference=True, rate=NAN),
    ]
    found = styles(rows)["style + reference"]
    assert found["rate"]["opposites"]["mean"] == 0.5  # what has no rate did not move
    assert found["rate"]["from_clone"]["slow"]["mean"] == 0.5
    assert found["rate"]["from_clone"]["fast"]["mean"] == 0.0
    assert (found["rate"]["slow"], found["rate"]["fast"]) == (155.0, 170.0)
    assert found["pitch"]["opposites"]["mean"] == 0.0  # alike is not in order
    text = "\n".join(lines({"conditions": conditions(rows), "styles": styles(rows)}))
    assert "slow against the clone 50.0%" in text


def test_json_has_no_nan():
    assert json.dumps(without_nan({"a": [NAN, 1.0], "b": {"c": NAN}}), allow_nan=False)
