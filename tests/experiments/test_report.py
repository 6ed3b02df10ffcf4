"""The report's figures are those computed by hand, its page needs nothing but itself, its errors name the file."""

import json
import pathlib
import re

import pytest

from experiments.report import ReportError, build_report, write_summary_markdown
from experiments.report.__main__ import main
from tests.experiments.study_files import result, write_study


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[pathlib.Path, dict]:
    workdir = tmp_path_factory.mktemp("study")
    write_study(workdir)
    return workdir, build_report(workdir)


def change(path: pathlib.Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_rates_are_those_of_the_files(built):
    schemes = built[1]["schemes"]
    assert list(schemes) == ["aria", "dual_track", "fixed_rate"]
    assert schemes["aria"]["wer"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert schemes["aria"]["decoding"] == "greedy"
    assert schemes["dual_track"]["wer"]["mean"] == 0
    # Two of thirteen words of every long sentence, so every bootstrap draw gives the same rate.
    assert schemes["dual_track"]["long_wer"] == pytest.approx({"mean": 2 / 13, "low": 2 / 13, "high": 2 / 13})
    fixed = schemes["fixed_rate"]
    assert fixed["wer"]["mean"] == pytest.approx(1 / 5)
    assert (fixed["substitutions"], fixed["deletions"], fixed["insertions"]) == pytest.approx((0, 1 / 5, 0))
    assert fixed["sets"]["short"]["sampled"]["wer"]["mean"] == pytest.approx(2 / 5)
    assert fixed["sets"]["short"]["greedy"]["early_stops"] == 1
    assert fixed["sets"]["short"]["greedy"]["duration_ratio"] == pytest.approx(4 / 5)


def test_costs_are_means_over_seeds(built):
    aria = built[1]["schemes"]["aria"]
    assert aria["seeds"] == [0, 1]
    assert aria["train_cpu_seconds"] == 35
    assert aria["first_audio_frames"] == 1
    assert aria["real_time_factor"] is None
    assert built[1]["equal_cpu"] == {
        "cpu_seconds": 30,
        "schemes": {
            # ARIA's step 300 took 36 CPU seconds, so 30 of them end at step 200.
            "aria": {"step": 200, "wer": pytest.approx({"short": 0.15, "long": 0.3})},
            "dual_track": {"step": 300, "wer": pytest.approx({"short": 0.1, "long": 0.2})},
            "fixed_rate": {"step": 300, "wer": pytest.approx({"short": 0.1, "long": 0.2})},
        },
    }


def test_ceiling_and_judge(built):
    report = built[1]
    assert report["codec"]["resynthesis_wer"] == pytest.approx(1 / 30)
    assert report["codec"]["stoi"] == 0.85
    assert report["judge"]["name"] == "pocketsphinx"
    assert report["judge"]["clean_wer"] == 0


def test_differences_and_verdict_follow_the_data(built):
    report = built[1]
    dual = report["paired"]["dual_track"]
    assert dual["long"]["greedy"]["mean"] == pytest.approx(2 / 13)
    assert dual["long"]["greedy"]["excludes_zero"]
    assert not dual["short"]["best"]["excludes_zero"]
    assert dual["long"]["best"]["seeds"] == [0, 1]
    assert report["paired"]["fixed_rate"]["long"]["best"]["seeds"] == [0]
    text = " ".join(report["verdict"])
    assert "Against Dual-track: ARIA makes fewer word errors on long sentences (+15.4 points" in text
    assert "no difference is shown on short sentences" in text
    assert "supported against Dual-track on long sentences, not on short sentences" in text
    assert "Trained once only: Fixed rate 1:4" in text


def test_a_claim_that_the_data_contradict_is_called_so(tmp_path):
    write_study(tmp_path)
    for path in (tmp_path / "results").glob("[df]*-seed*.json"):
        path.unlink()
    for seed in (0, 1):
        worse = {**result("aria", seed, {"short": 1, "long": 1, "slow": 1, "fast": 1})}
        (tmp_path / "results" / f"aria-seed{seed}.json").write_text(json.dumps(worse))
    (tmp_path / "results" / "dual_track-seed0.json").write_text(json.dumps(result("dual_track", 0, {})))
    text = " ".join(build_report(tmp_path)["verdict"])
    assert "ARIA makes more word errors on short sentences (-20.0 points" in text
    assert (
        "The claim is not supported: no interval lies on ARIA's side, and on some sets the data contradict it." in text
    )


def test_the_page_is_whole_and_asks_for_nothing(built):
    html = (built[0] / "report.html").read_text()
    assert not re.search(r"https?:|//[\w.]+\.\w|@import|<link[^>]+stylesheet|<script[^>]+src|srcset", html)
    for source in re.findall(r'(?:src|href|xlink:href)="([^"]*)"', html):
        assert source.startswith(("data:", "#")), source[:60]
    assert html.count("<svg") == 4
    identities = re.findall(r'\bid="([^"]+)"', html)
    assert len(identities) == len(set(identities))
    # Two short, two long, a fast and a slow sentence; three schemes, clean and resynthesis; short has Griffin-Lim too.
    assert html.count("<audio") == 2 * 6 + 2 * 5 + 5 + 5
    assert "ARIA at CPU size &lt;synthetic&gt;" in html
    assert "prefers-color-scheme: dark" in html
    for heading in ("The claim", "What was run", "Word errors", "Learning curves", "Lag between text and voice"):
        assert f"<h2>{heading}</h2>" in html
    assert (built[0] / "figures" / "main.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((built[0] / "report.json").read_text()) == json.loads(json.dumps(built[1]))
    assert not [path for path in built[0].rglob(".*") if path.is_file()]


def test_the_same_results_give_the_same_report(built):
    before = (built[0] / "report.json").read_bytes(), (built[0] / "report.html").read_bytes()
    build_report(built[0])
    assert ((built[0] / "report.json").read_bytes(), (built[0] / "report.html").read_bytes()) == before


def test_markdown_has_a_row_a_scheme_and_decoding_and_the_ceiling(built):
    lines = write_summary_markdown(built[1]).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 2 + 3 * 2 + 2
    assert rows[2].startswith("| ARIA | **greedy** | 0.0 % [0.0, 0.0] |")


def test_a_study_without_extras_is_reported_too(tmp_path):
    write_study(tmp_path)
    for path in (tmp_path / "results").glob("*-seed*.json"):
        record = json.loads(path.read_text())
        short = [{**item, "wav": None, "interleaving": None, "lag": []} for item in record["sets"]["short"]["greedy"]]
        path.write_text(json.dumps({**record, "curve": [], "sets": {"short": {"greedy": short}}}))
    report = build_report(tmp_path)
    assert report["schemes"]["aria"]["long_wer"] is None
    assert report["equal_cpu"] is None


def test_a_study_that_goes_on_says_so(tmp_path):
    write_study(tmp_path)
    change(tmp_path / "run.json", runs=7)
    assert build_report(tmp_path)["verdict"][0] == "Unfinished: 5 of 7 runs are there."


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "run.json").unlink(), r"run\.json: no such file; run the study to its end first"),
        (lambda d: (d / "results/aria-seed0.json").write_text('{"arm": '), r"aria-seed0\.json: not readable as JSON"),
        (
            lambda d: change(d / "results/aria-seed0.json", seed="one"),
            r"aria-seed0\.json: seed is 'one'; accepted: an integer",
        ),
        (lambda d: change(d / "results/aria-seed0.json", sets={"shrt": {}}), r"set 'shrt'; accepted: short, long"),
        (lambda d: change(d / "results/aria-seed1.json", seed=0), r"arm 'aria' with seed 0 is there twice"),
        (lambda d: change(d / "results/ceiling.json", clean={}), r"ceiling\.json: clean has no set 'short'"),
        (lambda d: (d / "wavs/tone.wav").unlink(), r"tone\.wav: no such file, though sentence 'short-0' names it"),
    ],
)
def test_a_missing_or_wrong_file_is_named_in_one_line(tmp_path, spoil, message):
    write_study(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ReportError, match=message) as caught:
        build_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_different_sentences_are_not_compared(tmp_path):
    write_study(tmp_path)
    path = tmp_path / "results" / "fixed_rate-seed0.json"
    record = json.loads(path.read_text())
    record["sets"]["long"]["greedy"].pop()
    path.write_text(json.dumps(record))
    with pytest.raises(ReportError, match=r"arms fixed_rate and aria, set long: sentence 'long-3' has no partner"):
        build_report(tmp_path)


def test_command_rebuilds_and_reports_errors(tmp_path, capsys):
    write_study(tmp_path)
    assert main([f"--workdir={tmp_path}"]) == 0
    assert "| ARIA | **greedy** |" in capsys.readouterr().out
    assert main([f"--workdir={tmp_path / 'absent'}"]) == 1
    assert "no result files" in capsys.readouterr().err
