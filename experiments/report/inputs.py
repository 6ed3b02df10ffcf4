"""What a study leaves in its work directory, read and checked: `results/*.json` and `run.json`."""

import dataclasses
import pathlib
from typing import Any

from experiments.report.records import Record, ReportError, read_json

SETS = ("short", "long", "fast", "slow", "voice")
DECODINGS = ("greedy", "sampled")
STAGES = ("clean", "resynthesis", "griffin_lim")
_ARM_ORDER = ("aria", "dual_track", "dual_paced", "fixed_rate")


@dataclasses.dataclass(frozen=True)
class Item:
    """A judged sentence. Durations in seconds; `lag` holds (time, lag) of the words that were heard.

    `interleaving` has a letter a step of the stream: t text, s speech, b both. `wav` is relative to the work directory.
    """

    id: str
    reference: str
    hypothesis: str
    words: int
    substitutions: int
    deletions: int
    insertions: int
    repeats: int = 0
    early_stop: bool = False
    runaway: bool = False
    seconds: float | None = None
    reference_seconds: float | None = None
    lag: tuple[tuple[float, float], ...] = ()
    wav: str | None = None
    interleaving: str | None = None


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A measurement during training: `wer` holds fractions by set, those that were measured."""

    step: int
    cpu_seconds: float
    loss: float
    wer: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
    """One training run of one arm."""

    arm: str
    scheme: str
    label: str
    seed: int
    options: dict[str, Any]
    parameters: int
    steps: int
    train_seconds: float
    train_cpu_seconds: float
    curve: tuple[CurvePoint, ...]
    speech: dict[str, float | None]
    sets: dict[str, dict[str, tuple[Item, ...]]]


@dataclasses.dataclass(frozen=True)
class Ceiling:
    """What the judge hears without a Talker: `stages` maps clean, resynthesis, griffin_lim to set to items."""

    judge: dict[str, Any]
    stages: dict[str, dict[str, tuple[Item, ...]]]
    stoi: dict[str, float]
    codec: dict[str, Any]
    corpus: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """How the study was run; `seconds` by stage, `config` the operative gin text, `runs` as many as it asks for."""

    title: str
    command: str
    config: str
    versions: dict[str, Any]
    machine: dict[str, Any]
    seconds: dict[str, float]
    started: str
    runs: int


@dataclasses.dataclass(frozen=True)
class Study:
    """Everything that the report reads."""

    workdir: pathlib.Path
    results: tuple[Result, ...]
    ceiling: Ceiling
    run: Run

    def arms(self) -> dict[str, list[Result]]:
        """Arm -> its runs by seed; ARIA, dual-track and fixed-rate first, variants after them by name."""
        names = sorted({result.arm for result in self.results}, key=lambda arm: (_rank(arm), arm))
        return {name: sorted((r for r in self.results if r.arm == name), key=lambda r: r.seed) for name in names}


def load_study(workdir: pathlib.Path) -> Study:
    """Reads a work directory. Raises ReportError, one line, for a file that is missing, corrupt or of another shape."""
    paths = sorted(path for path in (workdir / "results").glob("*.json") if path.name != "ceiling.json")
    if not paths:
        raise ReportError(f"{workdir / 'results'}: no result files; accepted: one <arm>-seed<k>.json a training run")
    results: dict[tuple[str, int], Result] = {}
    for path in paths:
        result = _result(Record(read_json(path), str(path)))
        if (result.arm, result.seed) in results:
            raise ReportError(f"{path}: arm {result.arm!r} with seed {result.seed} is there twice; accepted: once")
        results[result.arm, result.seed] = result
    ceiling_path, run_path = workdir / "results" / "ceiling.json", workdir / "run.json"
    ceiling = _ceiling(Record(read_json(ceiling_path), str(ceiling_path)))
    run_record = Record(read_json(run_path), str(run_path))
    run = Run(
        **{field.name: run_record.get(field.name, _RUN_TYPES.get(field.name, str)) for field in dataclasses.fields(Run)}
    )
    return Study(workdir, tuple(results.values()), ceiling, run)


_RUN_TYPES = {"versions": dict, "machine": dict, "seconds": dict, "runs": int}


def _rank(arm: str) -> int:
    return _ARM_ORDER.index(arm) if arm in _ARM_ORDER else len(_ARM_ORDER)


def _result(record: Record) -> Result:
    speech = record.get("speech", dict)
    return Result(
        **{name: record.get(name, str) for name in ("arm", "scheme", "label")},
        **{name: record.get(name, int) for name in ("seed", "parameters", "steps")},
        **{name: record.get(name, float) for name in ("train_seconds", "train_cpu_seconds")},
        options=record.get("options", dict),
        curve=tuple(_point(value, record.where) for value in record.get("curve", list)),
        speech={name: record.at("speech").optional(name, float) for name in speech},
        sets=_sets(record, "sets"),
    )


def _point(value: Any, where: str) -> CurvePoint:
    point = Record(value, f"{where}: curve")
    wer = point.at("wer")
    measured = {name: wer.optional(name, float) for name in point.get("wer", dict)}
    return CurvePoint(
        step=point.get("step", int),
        cpu_seconds=point.get("cpu_seconds", float),
        loss=point.get("loss", float),
        wer={name: rate for name, rate in measured.items() if rate is not None},
    )


def _sets(record: Record, field: str) -> dict[str, dict[str, tuple[Item, ...]]]:
    found: dict[str, dict[str, tuple[Item, ...]]] = {}
    for name in record.get(field, dict):
        if name not in SETS:
            raise ReportError(f"{record.where}: set {name!r}; accepted: {', '.join(SETS)}")
        decodings = record.at(field).at(name)
        wrong = sorted(set(record.get(field, dict)[name]) - set(DECODINGS))
        if wrong:
            raise ReportError(f"{decodings.where}: decoding {wrong[0]!r}; accepted: {', '.join(DECODINGS)}")
        present = [decoding for decoding in DECODINGS if decoding in record.get(field, dict)[name]]
        found[name] = {decoding: _items(decodings, decoding) for decoding in present}
    if not found.get("short"):
        raise ReportError(
            f"{record.where}: {field} has no judged set 'short'; accepted: 'short' and any of {', '.join(SETS)}"
        )
    return found


def _ceiling(record: Record) -> Ceiling:
    stages = {stage: {name: _items(record.at(stage), name) for name in record.get(stage, dict)} for stage in STAGES}
    for stage in ("clean", "resynthesis"):
        if "short" not in stages[stage]:
            raise ReportError(
                f"{record.where}: {stage} has no set 'short'; accepted: any of {', '.join(SETS)}, 'short' always"
            )
    record.at("judge").get("name", str)
    stoi = record.at("stoi")
    return Ceiling(
        judge=record.get("judge", dict),
        stages=stages,
        stoi={name: stoi.get(name, float) for name in record.get("stoi", dict)},
        codec=record.get("codec", dict),
        corpus=record.get("corpus", dict),
    )


def _items(record: Record, name: str) -> tuple[Item, ...]:
    values = record.get(name, list)
    if not values:
        raise ReportError(f"{record.where}: {name} is empty; accepted: one or more judged sentences")
    return tuple(_item(Record(value, f"{record.where}: {name}[{index}]")) for index, value in enumerate(values))


def _item(record: Record) -> Item:
    lag = record.optional("lag", list, [])
    for pair in lag:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, int | float) for x in pair)):
            raise ReportError(f"{record.where}: lag holds {pair!r}; accepted: [time, lag] in seconds")
    letters = record.optional("interleaving", str)
    if letters is not None and set(letters) - set("tsb"):
        raise ReportError(f"{record.where}: interleaving is {letters!r}; accepted: letters t, s and b")
    return Item(
        **{name: record.get(name, str) for name in ("id", "reference", "hypothesis")},
        **{name: record.get(name, int) for name in ("words", "substitutions", "deletions", "insertions")},
        repeats=record.optional("repeats", int, 0),
        early_stop=record.optional("early_stop", bool, False),
        runaway=record.optional("runaway", bool, False),
        seconds=record.optional("seconds", float),
        reference_seconds=record.optional("reference_seconds", float),
        lag=tuple((float(time), float(seconds)) for time, seconds in lag),
        wav=record.optional("wav", str),
        interleaving=letters,
    )
