"""Whole Thinkers: released -> ours -> released gives the same tensors, config.json and tokenizer; what is refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qomni_jax.config.sequence import SequenceConfig
from qomni_jax.interop import open_audio_encoder, open_language_model, open_thinker, open_vision_encoder
from qomni_jax.interop.__main__ import main
from qomni_jax.interop.safetensors_file import SafetensorsFile
from qomni_jax.sequence.chat_tokenizer import ChatTokenizer
from qomni_jax.sequence.special_tokens import (
    AUDIO_END,
    AUDIO_PAD,
    AUDIO_START,
    IMAGE_PAD,
    VIDEO_PAD,
    VISION_END,
    VISION_START,
)
from qomni_jax.storage.arrays import flat
from qomni_jax.thinker.storage import describe_thinker, load_thinker, save_thinker
from tests.interop.checkpoint_files import GOLDENS, config_of, fused
from tests.thinker.thinker_files import own_thinker

NAMES = ("thinker_qwen3_5", "thinker_qwen3_omni")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Both goldens as directories of ours."""
    directory = tmp_path_factory.mktemp("converted")
    for name in NAMES:
        run("convert", f"--checkpoint={GOLDENS / name}", f"--out={directory / name}")
    return directory


def run(*arguments) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def refused(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def raw(path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Type, shape and bytes of every tensor of a file."""
    with SafetensorsFile(path) as file:
        return {name: (*info[:2], file.read(name).tobytes()) for name, info in file.tensors.items()}


def assert_holds(found, wanted) -> None:
    """Every field of `wanted` is in `found`, objects inside objects too."""
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert_holds(found[name], value)
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("name", NAMES)
def test_names_bytes_and_config_come_back_as_they_were(name, converted, tmp_path):
    run("export", f"--checkpoint={converted / name}", f"--out={tmp_path / 'back'}")
    assert raw(tmp_path / "back" / "model.safetensors") == raw(GOLDENS / name / "model.safetensors")
    assert_holds(json.loads((tmp_path / "back" / "config.json").read_text()), config_of(name))


def test_shards_and_fused_experts(converted, tmp_path):
    name = "thinker_qwen3_5"
    options = ("--experts=fused", "--max_shard_size=100KB")
    run("export", f"--checkpoint={converted / name}", f"--out={tmp_path / 'back'}", *options)
    index = json.loads((tmp_path / "back" / "model.safetensors.index.json").read_text())["weight_map"]
    found = {}
    for file in set(index.values()):
        found |= load_file(tmp_path / "back" / file)
    wanted = fused(load_file(GOLDENS / name / "model.safetensors"))
    assert found.keys() == index.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_thinker_is_the_released_one(name, converted):
    ours, parameters = open_thinker([converted / name])
    released, expected = open_thinker([GOLDENS / name])
    assert ours == released
    assert describe_thinker(converted / name) == released.stored
    wanted = flat(expected)
    found = flat(parameters)
    assert found.keys() == wanted.keys()
    for leaf, value in wanted.items():
        np.testing.assert_array_equal(found[leaf], value, err_msg=leaf)


@pytest.mark.parametrize("part", [open_language_model, open_audio_encoder, open_vision_encoder])
def test_a_part_of_a_converted_thinker_is_that_of_the_released_one(part, converted):
    config, parameters = part([converted / "thinker_qwen3_omni"])
    expected_config, expected = part([GOLDENS / "thinker_qwen3_omni"])
    if part is open_language_model:  # what `dtype` says of the whole model stands in config.json of its parts, too
        config, expected_config = config.config, expected_config.config
    assert config == expected_config
    for leaf, value in flat(expected).items():
        np.testing.assert_array_equal(flat(parameters)[leaf], value, err_msg=leaf)


def test_inspect_counts_a_converted_thinker_as_the_released_one(converted, tmp_path):
    found = []
    for source in (GOLDENS / "thinker_qwen3_omni", converted / "thinker_qwen3_omni"):
        run("inspect", f"--checkpoint={source}", f"--json={tmp_path / 'found.json'}")
        found.append(json.loads((tmp_path / "found.json").read_text()))
    for key in ("family", "sizes", "parameters", "billions", "bytes", "layout", "not_loaded"):
        assert found[0][key] == found[1][key], key
    assert found[0]["not_loaded"] == []


def test_verify_meets_the_golden_from_a_converted_thinker(converted, tmp_path):
    name = "thinker_qwen3_omni"
    files = [f"--checkpoint={converted / name}", f"--golden={GOLDENS / name / 'golden.safetensors'}"]
    run("verify", *files, f"--json={tmp_path / 'report.json'}")
    assert json.loads((tmp_path / "report.json").read_text())["skipped"] == []


def whole_omni(directory):
    """A Qwen3-Omni with Talker and codec."""
    directory.mkdir()
    tensors = load_file(GOLDENS / "thinker_qwen3_omni" / "model.safetensors")
    rest = {"talker.codec_head.weight": np.ones((2, 2), np.float32), "code2wav.pre.weight": np.ones(3, np.float32)}
    save_file({f"thinker.{name}": value for name, value in tensors.items()} | rest, directory / "model.safetensors")
    config = {"model_type": "qwen3_omni_moe", "thinker_config": config_of("thinker_qwen3_omni"), "dtype": "float32"}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_talker_and_codec_are_named_and_left(tmp_path, capsys):
    run("convert", f"--checkpoint={whole_omni(tmp_path / 'omni')}", f"--out={tmp_path / 'ours'}")
    assert "not loaded: 2 tensors of code2wav, talker: the Thinker alone is read" in capsys.readouterr().out
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'back'}")
    wanted = raw(GOLDENS / "thinker_qwen3_omni" / "model.safetensors")
    assert raw(tmp_path / "back" / "model.safetensors") == wanted
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["architectures"] == ["Qwen3OmniMoeThinkerForConditionalGeneration"]
    assert_holds(config, config_of("thinker_qwen3_omni"))


def test_the_language_model_alone_on_request(converted, tmp_path, capsys):
    name = "thinker_qwen3_5"
    part = "--part=language_model"
    run("convert", f"--checkpoint={GOLDENS / name}", f"--out={tmp_path / 'ours'}", part)
    assert "tensors of visual: the language model alone is read" in capsys.readouterr().out
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'one'}")
    run("export", f"--checkpoint={converted / name}", f"--out={tmp_path / 'two'}", part)
    wanted = {
        key.replace("model.language_model.", "model."): value
        for key, value in raw(GOLDENS / name / "model.safetensors").items()
        if not key.startswith("model.visual.")
    }
    for back in (tmp_path / "one", tmp_path / "two"):
        assert raw(back / "model.safetensors") == wanted
        assert json.loads((back / "config.json").read_text())["architectures"] == ["Qwen3_5MoeForCausalLM"]


def test_a_text_model_becomes_a_thinker_on_request(tmp_path):
    """To be given encoders of one's own."""
    source = f"--checkpoint={GOLDENS / 'qwen3_5_moe_text'}"
    run("convert", source, f"--out={tmp_path / 'ours'}", "--part=thinker")
    stored, parameters, tokenizer = load_thinker(tmp_path / "ours")
    assert (stored.kinds, tokenizer) == ([], None)
    assert parameters.keys() == {"language_model"}
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'back'}")
    assert raw(tmp_path / "back" / "model.safetensors") == raw(GOLDENS / "qwen3_5_moe_text" / "model.safetensors")


TOKENS = {
    "image_token_id": IMAGE_PAD,
    "video_token_id": VIDEO_PAD,
    "vision_start_token_id": VISION_START,
    "vision_end_token_id": VISION_END,
    "audio_token_id": AUDIO_PAD,
    "audio_start_token_id": AUDIO_START,
    "audio_end_token_id": AUDIO_END,
}


def with_tokenizer(directory, name):
    """A golden with a tokenizer, whose tokens have the ids that config.json gives, and a file of its processor."""
    shutil.copytree(GOLDENS / name, directory)
    tokenizer = ChatTokenizer.train(["what is in this picture?"], 300)
    config = config_of(name)
    config |= {field: tokenizer.special(token) for field, token in TOKENS.items() if field in config}
    config["text_config"]["vocab_size"] = tokenizer.vocab_size
    tensors = load_file(directory / "model.safetensors")
    for key in ("lm_head.weight", *(key for key in tensors if key.endswith("embed_tokens.weight"))):
        tensors[key] = np.resize(tensors[key], (tokenizer.vocab_size, tensors[key].shape[1]))
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config))
    tokenizer.save(directory / "tokenizer.json")
    (directory / "preprocessor_config.json").write_text('{"patch_size": 16}')
    return directory


@pytest.mark.parametrize("name", NAMES)
def test_a_thinker_that_was_trained_on_is_exported_as_its_kind(name, tmp_path):
    """What came of a release and was saved anew has no record of it: its config says which class has its structure."""
    source = with_tokenizer(tmp_path / "released", name)
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    save_thinker(tmp_path / "trained", *load_thinker(tmp_path / "ours"))
    run("export", f"--checkpoint={tmp_path / 'trained'}", f"--out={tmp_path / 'back'}", "--experts=per_expert")
    assert raw(tmp_path / "back" / "model.safetensors") == raw(source / "model.safetensors")
    assert open_thinker([tmp_path / "back"])[0].stored == open_thinker([source])[0].stored
    config, wanted = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "back", source))
    assert config["architectures"] == wanted["architectures"]
    for field in TOKENS:
        assert config.get(field) == wanted.get(field), field


def test_a_thinker_of_the_systems_own_kind_has_no_released_class(tmp_path, capsys):
    """Its language model has: that of Qwen3.5."""
    ours, out = f"--checkpoint={own_thinker(tmp_path / 'own')}", f"--out={tmp_path / 'out'}"
    assert "an audio encoder of 4 convolutions has no released class" in refused(capsys, "export", ours, out)
    assert not (tmp_path / "out").exists()
    run("export", ours, out, "--part=language_model")
    description, parameters = open_language_model([tmp_path / "out"])
    stored, own, _ = load_thinker(tmp_path / "own")
    assert description.config.decoder.attention == stored.config.language_model.decoder.attention
    np.testing.assert_array_equal(parameters["lm_head"]["kernel"], own["language_model"]["lm_head"]["kernel"])


def test_what_a_release_lays_out_otherwise_is_named(tmp_path, capsys):
    """The weights would load, and read other positions than they were trained with."""
    source = with_tokenizer(tmp_path / "released", "thinker_qwen3_5")
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    stored, parameters, tokenizer = load_thinker(tmp_path / "ours")
    save_thinker(tmp_path / "trained", stored._replace(sequence=SequenceConfig()), parameters, tokenizer)
    message = refused(capsys, "export", f"--checkpoint={tmp_path / 'trained'}", f"--out={tmp_path / 'out'}")
    assert "sequence.time_encoding = 'timestamps_and_tmrope': accepted is 'timestamps'" in message
    assert "as Qwen3_5MoeForConditionalGeneration has it" in message


def test_inspect_counts_a_thinker_of_the_systems_own_kind(tmp_path, capsys):
    path = own_thinker(tmp_path / "own")
    run("inspect", f"--checkpoint={path}", f"--json={tmp_path / 'found.json'}")
    found = json.loads((tmp_path / "found.json").read_text())
    _, parameters, _ = load_thinker(path)
    assert found["family"] == "qomni"
    assert found["parameters"]["total"] == sum(leaf.size for leaf in flat(parameters).values())
    for part, name in (("audio", "audio_encoder"), ("visual", "vision_encoder")):
        assert found["parameters"][part] == sum(leaf.size for leaf in flat(parameters[name]).values())
    assert found["parameters"]["mtp"] > 0


def test_tokenizer_and_processor_go_with_the_weights(tmp_path):
    source = with_tokenizer(tmp_path / "released", "thinker_qwen3_5")
    run("convert", f"--checkpoint={source}", f"--out={tmp_path / 'ours'}")
    run("export", f"--checkpoint={tmp_path / 'ours'}", f"--out={tmp_path / 'back'}")
    for name in ("tokenizer.json", "preprocessor_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()


def test_what_is_not_accepted_is_one_line_and_nothing_is_written(converted, tmp_path, capsys):
    ours, out = f"--checkpoint={converted / 'thinker_qwen3_5'}", f"--out={tmp_path / 'out'}"
    assert "is converted already" in refused(capsys, "convert", ours, out)
    assert "holds a whole Thinker: accepted is this one alone" in refused(capsys, "export", ours, ours, out)
    golden = GOLDENS / "thinker_qwen3_omni"
    assert "config.audio = None: accepted is a Thinker with that encoder" in refused(
        capsys, "verify", ours, f"--golden={GOLDENS / 'qwen3_omni_audio' / 'golden.safetensors'}"
    )
    shutil.copytree(golden, tmp_path / "cut")
    tensors = load_file(golden / "model.safetensors")
    del tensors["audio_tower.ln_post.bias"]
    save_file(tensors, tmp_path / "cut" / "model.safetensors")
    assert "missing: audio_tower.ln_post.bias" in refused(capsys, "convert", f"--checkpoint={tmp_path / 'cut'}", out)
    shutil.copytree(converted / "thinker_qwen3_omni", tmp_path / "other")
    (tmp_path / "other" / "released.json").write_text('{"family": "qwen9"}')
    assert "released.json: not the released form of a Thinker" in refused(
        capsys, "export", f"--checkpoint={tmp_path / 'other'}", out
    )
    assert not (tmp_path / "out").exists()
