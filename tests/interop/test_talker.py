"""Released Talkers: every tensor has its place, and what is said is what a plain float64 computation says."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from qomni_jax.interop import CheckpointError, open_qwen3_omni, open_talker
from qomni_jax.interop.__main__ import main
from qomni_jax.interop.key_map import leaf_shapes
from qomni_jax.interop.released import read_released
from qomni_jax.interop.released_prompt import read_prompt
from qomni_jax.interop.talker_families import parse_speech_tokens, parse_talker
from qomni_jax.interop.talker_keys import talker_key_map
from qomni_jax.layers.decoder import layer_intermediates
from qomni_jax.layers.linear import unbox
from qomni_jax.sequence.elements import Kind
from qomni_jax.sequence.media_sizes import AudioSize, ImageSize
from qomni_jax.sizes import qwen3_omni_talker
from qomni_jax.storage.arrays import flat
from qomni_jax.talker.qwen3_omni import init_qwen3_omni_talker
from qomni_jax.thinker import Example, Thinker, place_media
from tests.interop.checkpoint_files import GOLDENS, fused, write
from tests.interop.released_codec import decode
from tests.interop.released_codec import random_tensors as random_codec
from tests.interop.released_omni import (
    ASSISTANT,
    CODEC,
    END,
    LINE,
    PAD,
    START,
    SYSTEM,
    THINKER,
    TTS_BOS,
    TTS_EOS,
    USER,
    write_whole,
)
from tests.interop.released_talker import BOS, CODES, TALKER, PlainTalker, random_talker

FRAMES, NEW_TOKENS = 7, 5


def verified(directory, golden: dict[str, np.ndarray], tmp_path) -> dict[str, dict]:
    """The rows of `verify`, all of them in tolerance."""
    save_file({name: np.ascontiguousarray(value) for name, value in golden.items()}, tmp_path / "golden.safetensors")
    files = [f"--checkpoint={directory}", f"--golden={tmp_path / 'golden.safetensors'}"]
    assert main(["verify", *files, f"--json={tmp_path / 'report.json'}"]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["skipped"], report["tensors"].keys()) == ([], golden.keys())
    return report["tensors"]


def test_every_tensor_of_a_golden_of_the_talker_alone(tmp_path):
    """Experts in one tensor, as some files have them; text ends before speech does."""
    tensors = random_talker()
    talker, rng = PlainTalker(tensors), np.random.default_rng(0)
    prompt, tx = rng.standard_normal((6, 16)), rng.standard_normal((4, 32))
    pair, text = rng.standard_normal((2, 16)), rng.standard_normal((4, 16))
    positions = np.tile(np.arange(6), (3, 1))
    layers = talker.backbone(prompt, positions)
    codes = talker.greedy(prompt, positions, text[:3], text[3], FRAMES, 1.0)
    golden = {
        "inputs_embeds": prompt,
        "tx": tx,
        "cp_prefill_embeds": pair,
        "trailing_text_hidden": text[:3],
        "tts_pad_embed": text[3:],
        "text_projection": talker.projected("text_projection", tx),
        "hidden_projection": talker.projected("hidden_projection", tx),
        "logits": layers[-1] @ talker.t["codec_head.weight"].T,
        "cp_logits": talker.residual_logits(pair[0], pair[1], [4]),
        **{f"hidden_{number}": value for number, value in enumerate([prompt, *layers])},
    }
    integers = {"cp_forced": np.array([4]), "greedy_seq": codes[:, 0], "greedy_codes": codes[:-1].T}
    golden = {name: value[None].astype(np.float32) for name, value in golden.items()}
    directory = write(tmp_path / "talker", TALKER, fused(tensors))
    rows = verified(directory, golden | {name: value[None] for name, value in integers.items()}, tmp_path)
    assert sum(not row.get("input") for row in rows.values()) == 9


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole Qwen3-Omni: the tiny released Thinker, a Talker, a codec."""
    return write_whole(tmp_path_factory.mktemp("whole"))


def test_a_spoken_answer_about_sound_and_a_picture(whole, tmp_path):
    """A system turn, an earlier answer, a recording and a picture before the question."""
    system = [START, SYSTEM, LINE, 9, END, LINE]
    heard = [START, USER, LINE, 155, *[154] * 16, 156, 8, END, LINE]
    answered = [START, ASSISTANT, LINE, 30, 31, END, LINE]
    seen = [START, USER, LINE, 152, *[150] * 6, 153, 5, END, LINE]
    head = [START, ASSISTANT, LINE]
    ids = np.array([*system, *heard, *answered, *seen, *head])
    media = load_file(GOLDENS / THINKER / "golden.safetensors")
    media = {name: media[name] for name in ("input_features", "feature_attention_mask", "pixel_values")}
    grid = np.array([[1, 4, 6]])
    sizes = {Kind.AUDIO: [AudioSize(16)], Kind.IMAGE: [ImageSize((1, 4, 6))], Kind.VIDEO: []}
    opened, parameters = open_qwen3_omni([whole])
    sequence_config = opened.thinker.stored.sequence
    sequence = read_prompt(ids, opened.thinker.pads, sizes, sequence_config)
    example = Example(sequence, [(media["pixel_values"], (1, 4, 6))], [], [media["input_features"][0].T])
    hidden, row = thought(opened, parameters["thinker"], example)

    tensors = random_talker()
    talker = PlainTalker(tensors)
    table = np.asarray(parameters["thinker"]["language_model"]["embed_tokens"], np.float64)

    def text(tokens) -> np.ndarray:
        return talker.projected("text_projection", table[np.array(tokens)])

    user = np.array([*range(len(system), len(system + heard)), *range(len(ids) - len(seen) - 3, len(ids) - 3)])
    is_media = np.isin(ids[user], (150, 154))[:, None]
    prompt = np.where(is_media, talker.projected("hidden_projection", hidden[user]), text(ids[user]))
    special = [23, 24, 25, TALKER["speaker_id"]["ethan"], TALKER["codec_pad_id"], BOS]
    answer = row[len(ids) :].tolist()
    spoken = text([*head, *[PAD] * 4, TTS_BOS, answer[0]])
    spoken[3:] += np.stack([talker.code(index) for index in special])
    prompt = np.concatenate([prompt, spoken])
    following = text([*answer[1:-1], TTS_EOS])
    talker_ids = np.array([*ids[user], *[PAD] * 9])
    positions = read_prompt(talker_ids, opened.thinker.pads, sizes, sequence_config).positions
    codes = talker.greedy(prompt, positions, following, text([PAD])[0], FRAMES, 1.05)
    assert len(np.unique(codes[:, 0])) < FRAMES  # the penalty has something to look at
    wav = decode(CODEC, random_codec(CODEC), codes.T)

    golden = {
        "talker_inputs_embeds": prompt[None],
        "trailing_text_hidden": following[None],
        "tts_pad_embed": text([PAD])[None],
        "wav": wav[None, None],
    }
    golden = {name: value.astype(np.float32) for name, value in golden.items()} | media
    golden |= {"input_ids": ids[None], "seq": row[None], "codes": codes.T[None], "talker_input_ids": talker_ids[None]}
    golden |= {"image_grid_thw": grid}
    rows = verified(whole, golden, tmp_path)
    assert {name for name, found in rows.items() if found.get("input")} == {*media, "input_ids", "image_grid_thw"}


def thought(opened, parameters, example: Example) -> tuple[np.ndarray, np.ndarray]:
    """The output of the Thinker's layer that the Talker reads, and the row with its likeliest answer."""
    config, sequence = opened.thinker.stored.config, example.sequence
    media, (slots,) = place_media([example], config)
    last = sequence.positions.max() + 1 + np.arange(NEW_TOKENS)
    positions = np.concatenate([sequence.positions, np.tile(last, (3, 1))], axis=1)[:, None]
    slots = np.pad(slots, (0, NEW_TOKENS), constant_values=-1)[None]

    @jax.jit
    def run(parameters, tokens):
        output, sowed = Thinker(config).apply(
            {"params": parameters}, tokens, positions, slots=slots, media=media, mutable=["intermediates"]
        )
        decoder = sowed["intermediates"]["language_model"]["decoder"]
        layers = layer_intermediates(config.language_model.decoder, decoder)
        return output.logits, layers[opened.talker.accept_layer - 1]["hidden"]

    row = np.pad(sequence.tokens, (0, NEW_TOKENS)).astype(np.int64)
    with jax.default_matmul_precision("highest"):
        for at in range(len(sequence.tokens), len(row)):
            logits, hidden = run(parameters, jnp.asarray(row[None]))
            row[at] = int(np.argmax(logits[0, at - 1]))
    return np.asarray(hidden[0], np.float64), row


def test_names_shapes_and_size_of_the_released_talker():
    listed = read_released([GOLDENS / "real_size" / "Qwen3-Omni-30B-A3B.keys.txt"])
    talker = parse_talker(listed.config)
    assert talker.config == qwen3_omni_talker()
    rules = talker_key_map(talker.config, "talker.", "fused")
    theirs = {name: info.shape for name, info in listed.tensors.items() if name.startswith("talker.")}
    assert {name: rule.shape for name, rule in rules.items()} == theirs
    tree = jax.eval_shape(lambda: unbox(init_qwen3_omni_talker(talker.config, jax.random.key(0))))
    shapes = {name: leaf.shape for name, leaf in flat(tree).items()}
    assert leaf_shapes(rules) == shapes
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == sum(np.prod(shape) for shape in theirs.values())
    assert parse_speech_tokens(listed.config).tts_eos == 151_673


def test_join_undoes_split():
    rules, tensors = talker_key_map(parse_talker(TALKER).config), random_talker()
    for name, rows in tensors.items():
        np.testing.assert_array_equal(rules[name].join([block for _, _, block in rules[name].split(0, rows)]), rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code_predictor_config": 3}, "code_predictor_config = 3: accepted is an object"),
        ({"speaker_id": {}}, "speaker_id = {}: accepted is a mapping of names to ids"),
        ({"codec_eos_token_id": None}, "codec_eos_token_id is absent: accepted is a whole number"),
        ({"num_code_groups": 4}, "code_predictor_config: num_code_groups = 3: accepted is 4"),
        ({"codec_bos_id": 5000}, r"tokens = .*accepted is ids in 0..1034 \(vocab_size\)"),
        ({"thinker_hidden_size": 24}, r"misshapen: .*hidden_projection.linear_fc1.weight \[12, 32\] \(accepted is"),
        (
            {"text_config": TALKER["text_config"] | {"vocab_size": 1024 + CODES + 1}},
            r"vocab_size = 1036: accepted is 1025 to 1035",
        ),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(change, message, tmp_path):
    directory = write(tmp_path, TALKER | change, random_talker())
    with pytest.raises(CheckpointError, match=message):
        open_talker([directory])


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("talker_config", {"accept_hidden_layer": 3}, "accept_hidden_layer = 3: accepted is 1 to 2"),
        (None, {"tts_bos_token_id": None}, "tts_bos_token_id is absent: accepted is a whole number"),
    ],
)
def test_parts_that_do_not_fit_are_named(whole, part, change, message, tmp_path):
    config = json.loads((whole / "config.json").read_text())
    config |= {part: config[part] | change} if part else change
    directory = write(tmp_path, config, load_file(whole / "model.safetensors"))
    with pytest.raises(CheckpointError, match=message):
        open_qwen3_omni([directory])
