"""Talkers, codecs and whole Qwen3-Omnis: released -> ours -> released gives the same files; what is refused."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from qomni_jax.interop import open_codec, open_language_model, open_qwen3_omni, open_talker, open_thinker
from qomni_jax.storage.arrays import flat
from tests.interop.checkpoint_files import GOLDENS, fused, write
from tests.interop.released_codec import CONFIGS as CODECS
from tests.interop.released_codec import mimi_flags
from tests.interop.released_codec import random_tensors as random_codec
from tests.interop.released_omni import CONFIG, THINKER, whole_tensors, write_whole
from tests.interop.released_talker import TALKER, random_talker
from tests.interop.test_thinker_round_trip import assert_holds, raw, refused, run

TTS = "qwen3_tts_12hz_decoder"
ARCHITECTURES = {
    "talker": "Qwen3OmniMoeTalkerForConditionalGeneration",
    "qwen3_omni_code2wav": "Qwen3OmniMoeCode2Wav",
    "mimi": "MimiModel",
}
ALONE = ("talker", "talker, experts one by one", *CODECS, "mimi, flags of its codebooks")


def part_alone(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """config.json and tensors of one of `ALONE`."""
    if name.startswith("talker"):
        return TALKER, random_talker() if "one by one" in name else fused(random_talker())
    family = name.split(",")[0]
    return CODECS[family], random_codec(family) | (mimi_flags() if "flags" in name else {})


def tensors_in(directory) -> dict[str, np.ndarray]:
    index = directory / "model.safetensors.index.json"
    files = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    return {name: value for file in files for name, value in load_file(directory / file).items()}


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_opens_alike(open_part, ours, released) -> None:
    """What is computed with is equal: the same configuration, the same arrays."""
    (config, parameters), (wanted_config, wanted) = open_part([ours]), open_part([released])
    assert config == wanted_config
    assert_same(flat(parameters), flat(wanted))


@pytest.mark.parametrize("name", ALONE)
def test_a_part_alone_comes_back_byte_for_byte(name, tmp_path):
    config, tensors = part_alone(name)
    source, ours, back = (tmp_path / place for place in ("released", "ours", "back"))
    write(source, config | {"dtype": "float32"}, tensors)
    (source / "preprocessor_config.json").write_text("{}")
    run("convert", f"--checkpoint={source}", f"--out={ours}")
    run("export", f"--checkpoint={ours}", f"--out={back}")
    assert raw(back / "model.safetensors") == raw(source / "model.safetensors")
    written = json.loads((back / "config.json").read_text())
    assert_holds(written, config)
    family = name.split(",")[0]
    assert written.get("architectures") == ([ARCHITECTURES[family]] if family in ARCHITECTURES else None)
    assert (back / "preprocessor_config.json").read_text() == "{}"
    assert_opens_alike(open_talker if family == "talker" else open_codec, ours, source)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A whole Qwen3-Omni in three files, with a file of its processor."""
    directory = write_whole(tmp_path_factory.mktemp("omni") / "released", shards=3)
    (directory / "preprocessor_config.json").write_text("{}")
    return directory


@pytest.fixture(scope="module")
def ours(released):
    """The same as a directory of ours."""
    directory = released.with_name("ours")
    run("convert", f"--checkpoint={released}", f"--out={directory}")
    return directory


def test_a_whole_model_comes_back_in_shards(ours, tmp_path):
    run("export", f"--checkpoint={ours}", f"--out={tmp_path / 'back'}", "--max_shard_size=200KB")
    files = list((tmp_path / "back").glob("model-*.safetensors"))
    assert len(files) > 3
    assert max(file.stat().st_size for file in files) < 210 << 10  # with its header
    assert_same(tensors_in(tmp_path / "back"), whole_tensors())
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["architectures"] == ["Qwen3OmniMoeForConditionalGeneration"]
    assert (tmp_path / "back" / "preprocessor_config.json").is_file()
    thinker = CONFIG["thinker_config"]
    inner = {name: value for name, value in thinker.items() if name not in ("architectures", "dtype")}
    assert_holds(config, CONFIG | {"thinker_config": inner})


def test_experts_of_a_whole_model_in_both_layouts(released, tmp_path):
    """One Thinker's and one Talker's, straight from what was released and back."""
    run("export", f"--checkpoint={released}", f"--out={tmp_path / 'fused'}", "--experts=fused")
    assert_same(tensors_in(tmp_path / "fused"), fused(whole_tensors()))
    run("export", f"--checkpoint={tmp_path / 'fused'}", f"--out={tmp_path / 'back'}", "--experts=per_expert")
    assert_same(tensors_in(tmp_path / "back"), whole_tensors())


@pytest.mark.parametrize("open_part", [open_thinker, open_language_model, open_talker, open_codec])
def test_parts_of_a_converted_model_are_those_of_the_released_one(open_part, ours, released):
    if open_part is open_language_model:  # the description tells how the release it came from was laid out
        assert_same(flat(open_part([ours])[1]), flat(open_part([released])[1]))
    else:
        assert_opens_alike(open_part, ours, released)


def test_a_converted_model_is_the_released_one(ours, released):
    assert_opens_alike(open_qwen3_omni, ours, released)


def test_parts_are_taken_out_of_a_model_ours_or_released(ours, released, tmp_path, capsys):
    """A Talker alone has its experts in one tensor, as the class that reads it wants them."""
    parts = {"talker": fused(random_talker()), "codec": random_codec("qwen3_omni_code2wav")}
    parts["thinker"] = load_file(GOLDENS / THINKER / "model.safetensors")
    for part, wanted in parts.items():
        for source in (ours, released):
            out = tmp_path / f"{source.name}-{part}"
            run("export", f"--checkpoint={source}", f"--part={part}", f"--out={out}")
            assert_same(tensors_in(out), wanted)
    assert json.loads((tmp_path / "ours-talker" / "config.json").read_text())["num_code_groups"] == 3
    run("convert", f"--checkpoint={released}", "--part=talker", f"--out={tmp_path / 'talker'}")
    assert "of code2wav, audio, thinker, visual: the Talker alone is read" in capsys.readouterr().out
    run("export", f"--checkpoint={tmp_path / 'talker'}", f"--out={tmp_path / 'back'}")
    assert_same(tensors_in(tmp_path / "back"), parts["talker"])


def test_the_decoder_inside_the_tokenizers_release(tmp_path, capsys):
    """It stands there beside an encoder, which is left alone."""
    config = {"model_type": "qwen3_tts_tokenizer_12hz", "dtype": "float32", "encoder_config": CODECS["mimi"]}
    tensors = random_codec(TTS)
    inside = {f"decoder.{name}": value for name, value in tensors.items()}
    beside = {"encoder.encoder.layers.0.conv.weight": np.ones((4, 1, 7), np.float32)}
    source = write(tmp_path / "released", config | {"decoder_config": CODECS[TTS]}, inside | beside)
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    assert "not loaded: 1 tensors of encoder: the codec alone is read" in capsys.readouterr().out
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'back'}")
    assert_same(tensors_in(tmp_path / "back"), tensors)
    assert_opens_alike(open_codec, tmp_path / "ours", write(tmp_path / "alone", CODECS[TTS], tensors))


def test_types_are_kept_and_changed_on_request(tmp_path):
    tensors = {name: value.astype(ml_dtypes.bfloat16) for name, value in random_talker().items()}
    source = write(tmp_path / "released", TALKER | {"dtype": "bfloat16"}, tensors)
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'back'}")
    assert raw(tmp_path / "back" / "model.safetensors") == raw(source / "model.safetensors")
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'wide'}", "--dtype=float32")
    assert json.loads((tmp_path / "wide" / "config.json").read_text())["dtype"] == "float32"
    assert_same(tensors_in(tmp_path / "wide"), {name: value.astype(np.float32) for name, value in tensors.items()})


def test_inspect_counts_ours_as_the_released_one(ours, released, tmp_path):
    found = []
    for source in (released, ours):
        run("inspect", f"--checkpoint={source}", f"--json={tmp_path / 'found.json'}")
        found.append(json.loads((tmp_path / "found.json").read_text()))
    for key in ("family", "sizes", "parameters", "billions", "bytes", "not_loaded"):
        assert found[0][key] == found[1][key], key
    tensors = whole_tensors()
    counts = found[0]["parameters"]
    assert counts["total"] == sum(value.size for value in tensors.values())
    for part in ("thinker", "code2wav"):
        assert counts[part] == sum(value.size for name, value in tensors.items() if name.startswith(part + "."))
    assert counts["code_predictor"] == sum(
        value.size for name, value in tensors.items() if name.startswith("talker.code_predictor.")
    )


def test_inspect_counts_a_talker_alone(tmp_path):
    tensors = random_talker()
    source = write(tmp_path / "released", TALKER, tensors)
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    for path in (source, tmp_path / "ours"):
        run("inspect", f"--checkpoint={path}", f"--json={tmp_path / 'found.json'}")
        found = json.loads((tmp_path / "found.json").read_text())
        counts = found["parameters"]
        assert (found["family"], found["not_loaded"]) == ("qwen3_omni_talker", [])
        assert counts["total"] == counts["talker"] + counts["code_predictor"]
        assert counts["total"] == sum(value.size for value in tensors.values())
        assert counts["experts"] == sum(value.size for name, value in tensors.items() if ".experts." in name)


NAMES = {
    "talker.code_predictor.lm_head.1.weight": (11, 16),
    "code2wav.decoder.0.conv.weight": (16, 8, 7),
}


@pytest.mark.parametrize("command", ["convert", "export"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, name: t.pop(name), "missing: {name}\n"),
        (lambda t, name: t.update({name + "s": t[name]}), "extra: {name}s\n"),
        (lambda t, name: t.update({name: t[name][1:]}), "misshapen: {name} {less} (accepted is {shape})"),
        (lambda t, name: t.update({name: t[name] * np.float32(np.nan)}), "{name}: NaN or infinite"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(command, name, change, message, tmp_path, capsys):
    tensors, shape = whole_tensors(), list(NAMES[name])
    change(tensors, name)
    source = write(tmp_path / "released", CONFIG, tensors)
    found = refused(capsys, command, f"--checkpoint={source}", f"--out={tmp_path / 'out'}")
    assert message.format(name=name, shape=shape, less=[shape[0] - 1, *shape[1:]]) in found
    assert [path.name for path in tmp_path.iterdir()] == ["released"]


def test_a_part_that_is_not_there_is_named(ours, released, tmp_path, capsys):
    out = f"--out={tmp_path / 'out'}"
    codec = write(tmp_path / "codec", CODECS["mimi"], random_codec("mimi"))
    talker = write(tmp_path / "talker", TALKER, random_talker())
    run("convert", f"--checkpoint={talker}", f"--out={tmp_path / 'ours'}")
    before = sorted(tmp_path.iterdir())
    for command, source, part, accepted in (
        ("convert", codec, "talker", "codec"),
        ("convert", talker, "thinker", "talker"),
        ("export", tmp_path / "ours", "all", "talker"),
        ("convert", GOLDENS / THINKER, "codec", "thinker or language_model"),
    ):
        found = refused(capsys, command, f"--checkpoint={source}", f"--part={part}", out)
        assert f"--part={part}: accepted is {accepted}: it holds no other part" in found
    golden = GOLDENS / "qwen3_omni_audio" / "golden.safetensors"
    message = refused(capsys, "verify", f"--checkpoint={tmp_path / 'ours'}", f"--golden={golden}")
    assert "holds a 'qomni_jax qwen3_omni talker 1' alone" in message
    assert "is converted already" in refused(capsys, "convert", f"--checkpoint={tmp_path / 'ours'}", out)
    assert "is complete" in refused(capsys, "inspect", *[f"--checkpoint={tmp_path / 'ours'}"] * 2)
    with pytest.raises(ValueError, match="holds a Talker alone: accepted is a codec, or a whole Qwen3-Omni"):
        open_codec([tmp_path / "ours"])
    assert sorted(tmp_path.iterdir()) == before


def test_ours_that_has_lost_something_is_named(ours, tmp_path, capsys):
    damaged, out = tmp_path / "damaged", tmp_path / "out"
    shutil.copytree(ours, damaged)
    config = json.loads((damaged / "talker" / "config.json").read_text())
    config["released"]["num_code_groups"] = 5
    (damaged / "talker" / "config.json").write_text(json.dumps(config))
    assert "num_code_groups = 3: accepted is 5" in refused(capsys, "export", f"--checkpoint={damaged}", f"--out={out}")
    del config["family"]
    (damaged / "talker" / "config.json").write_text(json.dumps(config))
    message = refused(capsys, "inspect", f"--checkpoint={damaged}")
    assert "not the config of a converted Talker or codec (KeyError('family'))" in message
    shutil.rmtree(damaged / "talker")
    message = refused(capsys, "export", f"--checkpoint={damaged}", f"--out={out}")
    assert "talker/config.json: cannot be read" in message
    (damaged / "speech.json").unlink()
    with pytest.raises(ValueError, match=r"holds no whole Qwen3-Omni: accepted is one with speech\.json"):
        open_qwen3_omni([damaged])
    assert not out.exists()
    run("export", f"--checkpoint={damaged}", f"--out={out}")  # what is left is a Thinker
