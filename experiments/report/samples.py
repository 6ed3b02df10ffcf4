"""Parts of the page that show single sentences: audio players under every arm, and the interleaving of one sentence."""

import base64
from collections.abc import Iterator
import difflib
from html import escape
import pathlib
from typing import Any

from experiments.report.figures import draw, paint_paths
from experiments.report.inputs import Item, Study
from experiments.report.records import ReportError
from experiments.report.verdict import SET_NAMES

# How many sentences of each set get players: a page of a few megabytes that a phone still opens.
_PLAYED = {"short": 2, "long": 2, "fast": 1, "slow": 1, "voice": 1}
_STAGE_LABELS = {"clean": "Clean reference", "resynthesis": "Codec resynthesis", "griffin_lim": "Griffin-Lim"}


def players(study: Study, report: dict[str, Any]) -> str:
    """The same sentences under every arm, at the arm's decoding and lowest seed, with reference and resynthesis."""
    parts = []
    for name, count in _PLAYED.items():
        voices = [(label, {item.id: item for item in items}) for label, items in _versions(study, report, name)]
        if not voices:
            continue
        shared = [item for item in voices[0][1].values() if all(_has_audio(items, item.id) for _, items in voices)]
        for item in shared[:count]:
            rows = "".join(_player(study.workdir, label, items[item.id]) for label, items in voices)
            parts.append(
                f'<div class="sentence"><p class="dim">{SET_NAMES[name]}</p><p>{escape(item.reference)}</p>{rows}</div>'
            )
    key = (
        '<p class="dim">The first sentences of each set that all rows have, not chosen. '
        "What the judge heard: <ins>not in the text</ins>, <del>missing</del>, "
        "<mark>another word</mark>.</p>"
    )
    return key + "".join(parts) if parts else "<p>The study kept no audio that all schemes share.</p>"


def _versions(study: Study, report: dict[str, Any], name: str) -> Iterator[tuple[str, tuple[Item, ...]]]:
    """(label, items) of each arm, then of each stage that kept audio."""
    for arm, results in study.arms().items():
        items = results[0].sets.get(name, {}).get(report["schemes"][arm]["decoding"], ())
        if any(item.wav for item in items):
            yield report["schemes"][arm]["label"], items
    for stage, label in _STAGE_LABELS.items():
        items = study.ceiling.stages[stage].get(name, ())
        if any(item.wav for item in items):
            yield label, items


def _has_audio(items: dict[str, Item], identity: str) -> bool:
    return identity in items and items[identity].wav is not None


def _player(workdir: pathlib.Path, label: str, item: Item) -> str:
    path = workdir / str(item.wav)
    try:
        audio = base64.b64encode(path.read_bytes()).decode()
    except OSError:
        raise ReportError(f"{path}: no such file, though sentence {item.id!r} names it; run the study again") from None
    source = f"data:audio/wav;base64,{audio}"
    return (
        f'<div class="player"><span>{escape(label)}</span><audio controls preload="none" src="{source}"></audio>'
        f"<span>{compare(item.reference, item.hypothesis)}</span></div>"
    )


def compare(reference: str, hypothesis: str) -> str:
    """The hypothesis as HTML with its differences from the reference marked."""
    wanted, heard = reference.split(), hypothesis.split()
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, wanted, heard, autojunk=False).get_opcodes():
        missing, said = escape(" ".join(wanted[a:b])), escape(" ".join(heard[c:d]))
        if kind == "equal":
            parts.append(said)
        elif kind == "delete":
            parts.append(f"<del>{missing}</del>")
        elif kind == "insert":
            parts.append(f"<ins>{said}</ins>")
        else:
            parts.append(f'<mark title="{missing}">{said}</mark>')
    return " ".join(parts) or "<em>nothing</em>"


def interleaving(study: Study, report: dict[str, Any]) -> str:
    """The stream of one short sentence, a cell a step, under every arm, and the same as paths."""
    streams = {
        arm: {
            item.id: item for item in results[0].sets["short"][report["schemes"][arm]["decoding"]] if item.interleaving
        }
        for arm, results in study.arms().items()
    }
    drawn = {arm: items for arm, items in streams.items() if items}
    shared = [
        item for item in next(iter(drawn.values()), {}).values() if all(item.id in items for items in drawn.values())
    ]
    if not shared:
        return "<p>The study kept no interleaving that all schemes share.</p>"
    sentence = shared[0]
    rows, paths = [], []
    for index, arm in enumerate(streams):
        if arm in drawn:
            label, letters = report["schemes"][arm]["label"], str(drawn[arm][sentence.id].interleaving)
            cells = "".join(f'<i class="{letter}"></i>' for letter in letters)
            text, speech = (sum(letter in kinds for letter in letters) for kinds in ("tb", "sb"))
            described = f"{len(letters)} steps, {text} text tokens, {speech} speech frames"
            stream = f'<div class="stream" role="img" aria-label="{described}">{cells}</div>'
            rows.append(f"<h3>{escape(label)} <small>{described}</small></h3>{stream}")
            paths.append((index, label, letters))
    key = '<p class="dim key"><i class="t"></i>text <i class="s"></i>speech <i class="b"></i>both in one step</p>'
    picture = draw(lambda figure: paint_paths(figure, paths), (7.5, 3.6), "paths")
    return f"<p>“{escape(sentence.reference)}”</p>{key}{''.join(rows)}<figure>{picture}</figure>"
