"""gin files and flags: the shipped configurations parse, and a wrong one is refused in one line."""

import glob
import subprocess
import sys

import pytest

from experiments.gin_config import ConfigError, load_config
from experiments.study.config import StudyConfig

DEMO = "experiments/configs/aria_demo.gin"


SHIPPED = sorted(set(glob.glob("experiments/configs/aria_*.gin")) - {"experiments/configs/aria_base.gin"})


@pytest.mark.parametrize("path", SHIPPED)
def test_shipped_studies_parse_and_differ_in_their_interleavers_alone(path):
    study, operative = load_config(StudyConfig, [path], [])
    assert study.arms[0].name == "aria"
    assert "StudyConfig.arms" in operative
    assert study.training.steps in study.evaluation.curve_steps


def test_an_arm_may_have_seeds_of_its_own_and_runs_go_seed_by_seed():
    study, _ = load_config(StudyConfig, [DEMO], ["StudyConfig.seeds = (0, 1)", "dual_track/Arm.seeds = (0,)"])
    runs = [(arm.name, seed) for arm, seed in study.runs()]
    everyone, others = ("aria", "dual_track", "dual_paced", "fixed_rate"), ("aria", "dual_paced", "fixed_rate")
    assert runs == [*((arm, 0) for arm in everyone), *((arm, 1) for arm in others)]


def test_bindings_go_on_top():
    study, _ = load_config(StudyConfig, [DEMO], ["StudyConfig.seeds = (3, 4)", "OptimizerConfig.learning_rate = 1e-3"])
    assert study.seeds == (3, 4)
    assert study.training.optimizer.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("files", "bindings", "message"),
    [
        ([], [], "--gin_file is missing"),
        (["no_such.gin"], [], "no_such.gin"),
        ([DEMO], ["StudyConfig.sedes = (1,)"], "sedes"),
        ([DEMO], ["StudyConfg.seeds = (1,)"], "StudyConfg"),
        ([DEMO], ["StudyConfig.seeds = 1"], "StudyConfig.seeds = 1"),
        ([DEMO], ["TalkerTrainingConfig.steps = 'many'"], "TalkerTrainingConfig.steps = 'many'"),
        ([DEMO], ["aria/InterleaverConfig.scheme = 'arai'"], "InterleaverConfig.scheme = 'arai'"),
        ([DEMO], ["RVQConfig.num_codebooks = 2"], "num_codebooks = 2"),
        ([DEMO], ["EvaluationConfig.curve_steps = (7,)"], "multiples of checkpoint_every"),
        ([DEMO], ["EvaluationConfig.sets = ('short', 'whispered')"], "whispered"),
        ([DEMO], ["StudyConfig.seeds = (1"], "StudyConfig"),
        ([DEMO], ["word_times/InterleaverConfig.min_lead = 3"], "does not read word_times/InterleaverConfig.min_lead"),
        ([DEMO], ["aria/Arm.seeds = (1, 1)"], "Arm.seeds = (1, 1)"),
    ],
)
def test_a_wrong_configuration_is_one_line_that_names_it(files, bindings, message):
    with pytest.raises(ConfigError) as caught:
        load_config(StudyConfig, files, bindings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gin_file=" + DEMO], "--workdir is missing"),
        (["--gin_file=nowhere.gin", "--workdir={tmp}/w"], "nowhere.gin"),
        (["--gin_file=" + DEMO, "--workdir={tmp}/file/w"], "accepted is a directory that can be written"),
        (["--gin_file=" + DEMO, "--workdir={tmp}/w", "--arm=ira"], "--arm=ira: accepted is one of aria"),
        (["--gin_file=" + DEMO, "--workdir={tmp}/w", "extra"], "argument 'extra'"),
    ],
)
def test_the_command_ends_with_one_line_and_status_1(tmp_path, flags, message):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "experiments.aria_ablation", *(f.format(tmp=tmp_path) for f in flags)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "w" / "corpus").exists()
