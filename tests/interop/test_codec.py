"""Released codecs: every tensor has its place, and what comes out is what a plain float64 computation gives."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from qomni_jax.codec import WaveformCodec
from qomni_jax.codec.waveform_model import init_parameters
from qomni_jax.interop import CheckpointError, open_codec
from qomni_jax.interop.__main__ import main
from qomni_jax.interop.codec_families import parse_codec
from qomni_jax.interop.codec_keys import codec_key_map
from qomni_jax.interop.key_map import leaf_shapes
from qomni_jax.interop.released import read_released
from qomni_jax.sizes.codecs import qwen3_omni_code2wav
from qomni_jax.storage.arrays import flat
from tests.interop.checkpoint_files import GOLDENS, write
from tests.interop.released_codec import CONFIGS, FRAMES, decode, encode, mimi_flags, random_codes, random_tensors

HOP = 12  # samples a frame of the tiny codecs


@pytest.fixture(scope="module", params=CONFIGS)
def released(request, tmp_path_factory):
    """Family, directory, tensors."""
    tensors = random_tensors(request.param)
    directory = tmp_path_factory.mktemp(request.param)
    flags = mimi_flags() if request.param == "mimi" else {}
    return request.param, write(directory, CONFIGS[request.param], tensors | flags), tensors


def golden_of(name: str, tensors: dict) -> dict[str, np.ndarray]:
    """What a golden file of the family holds: Code2Wav's chunks are decoded each on its own and lose their ends."""
    if name == "mimi":
        x = np.random.default_rng(1).standard_normal((2, 1, FRAMES * HOP - 7)).astype(np.float32)
        codes = np.stack([encode(tensors, row[0]) for row in x])
        y = np.stack([decode(name, tensors, row)[None, : x.shape[2]] for row in codes])
        return {"x": x, "codes": codes, "y": y.astype(np.float32)}
    codes = random_codes(name)
    wav = np.stack([decode(name, tensors, row)[None] for row in codes])
    chunks = [(0, 0, 7), (7 - 3, 7, 14)]
    chunked = [
        np.stack([decode(name, tensors, row[:, first:end])[None, (start - first) * HOP :] for row in codes])
        for first, start, end in chunks
    ]
    found = {"wav": wav, "wav_chunked_7_3": np.concatenate(chunked, axis=-1)}
    return {"codes": codes} | {key: value.astype(np.float32) for key, value in found.items()}


def test_every_tensor_of_a_golden_is_met(released, tmp_path):
    name, directory, tensors = released
    golden = golden_of(name, tensors)
    samples = golden["y" if name == "mimi" else "wav"]
    assert np.std(samples) > 0.05
    assert np.mean(np.abs(samples) == 1) < 0.2
    save_file(golden, tmp_path / "golden.safetensors")
    files = [f"--checkpoint={directory}", f"--golden={tmp_path / 'golden.safetensors'}"]
    assert main(["verify", *files, f"--json={tmp_path / 'report.json'}"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["skipped"], report["tensors"].keys()) == ([], golden.keys())


def test_inspect_counts_a_codec(released, tmp_path):
    name, directory, tensors = released
    assert main(["inspect", f"--checkpoint={directory}", f"--json={tmp_path / 'found.json'}"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["family"], found["sizes"]["samples_per_frame"]) == (name, HOP)
    assert found["parameters"]["total"] == sum(value.size for value in tensors.values())
    assert (found["parameters"]["encoder"] > 0) == (name == "mimi")
    assert found["not_loaded"] == []


def test_join_undoes_split(released):
    name, _, tensors = released
    rules = codec_key_map(parse_codec(CONFIGS[name]).config, name)
    for key, rows in tensors.items():
        blocks = [block for _, _, block in rules[key].split(0, rows)]
        np.testing.assert_array_equal(rules[key].join(blocks), rows)


def test_names_shapes_and_size_of_the_released_code2wav():
    listed = read_released([GOLDENS / "real_size" / "Qwen3-Omni-30B-A3B.keys.txt"])
    codec = parse_codec(listed.config)
    assert codec.config == qwen3_omni_code2wav()
    rules = codec_key_map(codec.config, codec.family, "code2wav.")
    theirs = {name: info.shape for name, info in listed.tensors.items() if name.startswith("code2wav.")}
    assert {name: rule.shape for name, rule in rules.items()} == theirs
    tree = jax.eval_shape(lambda: init_parameters(codec.config, jax.random.key(0)))
    assert leaf_shapes(rules) == {name: leaf.shape for name, leaf in flat(tree).items()}
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == 216_016_577


def test_code2wav_inside_a_model_is_code2wav_alone(tmp_path):
    name = "qwen3_omni_code2wav"
    tensors = random_tensors(name)
    inside = {f"code2wav.{key}": value for key, value in tensors.items()}
    config = {"model_type": "qwen3_omni_moe", "code2wav_config": CONFIGS[name]}
    model = write(tmp_path / "model", config, inside | {"talker.model.norm.weight": np.ones(2, np.float32)})
    found, alone = open_codec([model]), open_codec([write(tmp_path / "alone", CONFIGS[name], tensors)])
    assert found[0] == alone[0]
    jax.tree.map(np.testing.assert_array_equal, found[1], alone[1])


@pytest.mark.parametrize("samples", [1, HOP, 2 * HOP + 5])
def test_a_recording_of_any_length_has_the_codes_of_the_reference(samples, tmp_path):
    """Ends inside a stride of every convolution: each pads its own input."""
    tensors = random_tensors("mimi")
    codec = WaveformCodec(*open_codec([write(tmp_path, CONFIGS["mimi"], tensors)]))
    audio = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    np.testing.assert_array_equal(codec.encode_audio([audio])[0].T, encode(tensors, audio))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "mimi",
            {"model_type": "encodec"},
            "model_type = 'encodec': accepted is a codec: 'mimi', one with decoder_dim",
        ),
        ("mimi", {"pad_mode": "reflect"}, "mimi: pad_mode = 'reflect': accepted is 'constant'"),
        ("mimi", {"frame_rate": 50.0}, "frame_rate = 50.0: accepted is 2000.0, two steps of the convolutions"),
        ("mimi", {"num_quantizers": 5}, "missing: quantizer.acoustic_residual_vector_quantizer.layers.3.codebook"),
        ("qwen3_omni_code2wav", {"hidden_act": "gelu"}, "hidden_act = 'gelu': accepted is 'silu'"),
        ("qwen3_omni_code2wav", {"upsample_rates": 3}, "upsample_rates = 3: accepted is a list of whole numbers"),
        ("qwen3_omni_code2wav", {"decoder_dim": 18}, "decoder_dim = 18: accepted is a multiple of 4"),
        ("qwen3_tts_12hz_decoder", {"latent_dim": 4}, r"misshapen: .*pre_conv.conv.weight \[10, 8, 3\] \(accepted is"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(name, change, message, tmp_path):
    directory = write(tmp_path, CONFIGS[name] | change, random_tensors(name))
    with pytest.raises(CheckpointError, match=message):
        open_codec([directory])
