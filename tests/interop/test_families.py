"""A released config.json becomes our configuration, and what we could not compute is refused by name."""

import pytest

from qomni_jax.interop.families import parse_config, released_config
from qomni_jax.storage.errors import CheckpointError
from tests.interop.checkpoint_files import NAMES, config_of

MOE = config_of("qwen3_5_moe_text")
ROPE = MOE["rope_parameters"]


def test_fields_of_a_mixture_of_experts():
    model = parse_config(MOE)
    decoder = model.config.decoder
    assert (model.family.name, model.composite) == ("qwen3_5_moe", False)
    assert (decoder.periods, decoder.pattern) == (1, ("gdn", "gdn", "gdn", "attention"))
    assert (decoder.gdn.num_key_heads, decoder.gdn.num_value_heads, decoder.gdn.head_key_dim) == (2, 4, 16)
    assert (decoder.attention.rope_theta, decoder.attention.rotary_dim) == (1e7, 16)
    assert decoder.attention.mrope_section == (3, 3, 2)
    assert (decoder.feed_forward.num_experts, decoder.feed_forward.top_k, decoder.feed_forward.hidden_dim) == (8, 2, 48)


def test_the_shortest_period_is_found():
    kinds = ["linear_attention", "full_attention"]
    model = parse_config(MOE | {"layer_types": kinds * 6, "num_hidden_layers": 12})
    assert (model.config.decoder.periods, model.config.decoder.pattern) == (6, ("gdn", "attention"))
    model = parse_config(MOE | {"layer_types": [*kinds, "full_attention"], "num_hidden_layers": 3})
    assert (model.config.decoder.periods, model.config.decoder.pattern) == (1, ("gdn", "attention", "attention"))
    without = {name: value for name, value in MOE.items() if name != "layer_types"}
    assert parse_config(without | {"num_hidden_layers": 8}).config.decoder.periods == 2


def test_rotary_settings_before_transformers_5_stand_beside_each_other():
    old = {name: value for name, value in MOE.items() if name != "rope_parameters"}
    old |= {"rope_theta": 5e6, "partial_rotary_factor": 0.5, "rope_scaling": {"mrope_section": [6, 5, 5]}}
    attention = parse_config(old).config.decoder.attention
    assert (attention.rope_theta, attention.rotary_dim, attention.mrope_section) == (5e6, 32, (6, 5, 5))


def test_absent_rotary_settings_have_the_reference_defaults():
    config = {name: value for name, value in MOE.items() if name not in ("rope_parameters", "head_dim")}
    attention = parse_config(config).config.decoder.attention
    assert (attention.rope_theta, attention.head_dim, attention.mrope_section) == (1e4, 256, (11, 11, 10))
    assert parse_config(config | {"model_type": "qwen3_next"}).config.decoder.attention.mrope_section is None


def test_the_language_model_of_a_model_with_vision():
    text = {name: value for name, value in MOE.items() if name not in ("tie_word_embeddings", "dtype")}
    outer = {"model_type": "qwen3_5_moe", "text_config": text, "tie_word_embeddings": True, "dtype": "bfloat16"}
    model = parse_config(outer)
    assert model.composite
    assert (model.config.tie_embeddings, model.config.dtype) == (True, "bfloat16")


OMNI = {
    "model_type": "qwen3_omni_moe_text",
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "sliding_window": None,
    "rope_parameters": {"rope_theta": 1000000, "mrope_section": [6, 5, 5], "interleaved": True},
}


def test_qwen3_layers_have_attention_alone_plain_norms_no_gate_and_no_shared_expert():
    decoder = parse_config(OMNI).config.decoder
    assert (decoder.periods, decoder.pattern, decoder.zero_centred_norms) == (4, ("attention",), False)
    assert (decoder.attention.gated, decoder.attention.rotary_dim, decoder.attention.qk_norm) == (False, 32, True)
    assert (decoder.feed_forward.hidden_dim, decoder.feed_forward.normalize_top_k) == (0, True)
    model = parse_config({"model_type": "qwen3_omni_moe", "thinker_config": {"text_config": OMNI}})
    assert model.composite
    assert model.config.decoder == decoder
    written = released_config(model.config, model.family, model.text, "float32")
    assert parse_config(written).config == model.config
    with pytest.raises(CheckpointError, match="attn_output_gate = True: accepted is False"):
        parse_config(OMNI | {"attn_output_gate": True})


@pytest.mark.parametrize("name", NAMES)
def test_what_we_write_says_what_we_read(name):
    model = parse_config(config_of(name))
    written = released_config(model.config, model.family, model.text, "float32")
    assert parse_config(written) == model._replace(text=written)
    original = config_of(name)
    assert {key: written[key] for key in original} == original


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "model_type = 'llama': accepted is one of qwen3_5_text, qwen3_5, qwen3_5_moe_text"),
        ({"model_type": None}, "model_type = None"),
        ({"hidden_size": None}, "hidden_size is absent: accepted is a whole number"),
        ({"hidden_size": "64"}, "hidden_size = '64': accepted is a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0: accepted is 1 or more"),
        ({"layer_types": ["linear_attention"] * 3}, r"layer_types = .*accepted is 4 \(num_hidden_layers\)"),
        ({"layer_types": ["mamba"] * 4}, "layer_types"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu': accepted is 'silu'"),
        ({"attention_bias": True}, "attention_bias = True: accepted is False"),
        ({"mlp_only_layers": [1]}, r"mlp_only_layers = \[1\]"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no': accepted is true or false"),
        ({"linear_num_value_heads": 3}, "num_value_heads = 3"),
        ({"num_experts_per_tok": 9}, "top_k = 9"),
        ({"rope_parameters": ROPE | {"mrope_section": [3, 3, 3]}}, r"mrope_section = \(3, 3, 3\): accepted is .* 8"),
        ({"rope_parameters": ROPE | {"mrope_section": None}}, r"mrope_section = \(11, 11, 10\): accepted is .* 8"),
        ({"rope_parameters": ROPE | {"rope_type": "yarn"}}, "rope_type = 'yarn': accepted is 'default'"),
        ({"rope_parameters": ROPE | {"mrope_interleaved": False}}, "mrope_interleaved = false"),
    ],
)
def test_what_cannot_be_computed_is_one_clear_error(change, message):
    with pytest.raises(CheckpointError, match=message) as error:
        parse_config(MOE | change, "here/config.json")
    assert str(error.value).startswith("here/config.json: ")
    assert "\n" not in str(error.value)
