"""Every released tensor has one place in our parameters, every parameter comes from one released tensor."""

import jax
import numpy as np
import pytest

from qomni_jax.interop.families import parse_config
from qomni_jax.interop.key_map import Layout, key_map, leaf_shapes
from qomni_jax.interop.plan import make_plan
from qomni_jax.interop.released import read_released
from qomni_jax.layers.language_model import init_language_model
from qomni_jax.layers.linear import unbox
from qomni_jax.storage.arrays import flat
from tests.interop.checkpoint_files import GOLDENS, NAMES, config_of


def parameter_shapes(config) -> dict[str, tuple[int, ...]]:
    tree = jax.eval_shape(lambda: unbox(init_language_model(config, jax.random.key(0))))
    return {name: leaf.shape for name, leaf in flat(tree).items()}


@pytest.mark.parametrize("name", ["Qwen3.5-35B-A3B", "Qwen3.5-122B-A10B", "Qwen3.5-397B-A17B", "Qwen3.5-27B"])
def test_released_sizes_map_onto_the_model(name):
    plan = make_plan(read_released([GOLDENS / "real_size" / f"{name}.keys.txt"]))
    assert leaf_shapes(plan.rules) == parameter_shapes(plan.config)
    assert len(plan.not_loaded) == 333


@pytest.mark.parametrize("experts", ["fused", "per_expert"])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_written_exactly_once(name, experts):
    config = config_of(name) | {"tie_word_embeddings": name == "qwen3_next", "mtp_num_hidden_layers": 1}
    model = parse_config(config)
    rules = key_map(model.config, model.family, Layout("model.", experts, experts))
    written = {leaf: np.zeros(shape, np.int32) for leaf, shape in parameter_shapes(model.config).items()}
    for rule in rules.values():
        half = (rule.groups + 1) // 2
        for first, last in [(0, half), (half, rule.groups)]:
            if first == last:
                continue
            rows = np.ones(((last - first) * rule.group_rows, *rule.rest))
            for leaf, place, block in rule.split(first, rows):
                written[leaf][tuple(slice(a, a + n) for a, n in zip(place, block.shape, strict=True))] += 1
    assert all((count == 1).all() for count in written.values())


@pytest.mark.parametrize("experts", ["fused", "per_expert"])
@pytest.mark.parametrize("name", NAMES)
def test_join_undoes_split(name, experts):
    model = parse_config(config_of(name) | {"mtp_num_hidden_layers": 1})
    rng = np.random.default_rng(0)
    for rule in key_map(model.config, model.family, Layout("model.", experts, experts)).values():
        rows = rng.standard_normal(rule.shape)
        blocks = [block for _, _, block in rule.split(0, rows)]
        assert [shape for _, _, shape in rule.places(0, rule.groups)] == [block.shape for block in blocks]
        np.testing.assert_array_equal(rule.join(blocks), rows)


def columns(name: str, tensor: str, leaf: str) -> list[int]:
    """Which released row each column of one of our matrices is, layer 0."""
    model = parse_config(config_of(name))
    rules = key_map(model.config, model.family, Layout())
    rule = rules[tensor]
    rows = np.broadcast_to(np.arange(rule.shape[0])[:, None], rule.shape)
    found: dict[int, int] = {}
    for target, place, block in rule.split(0, rows):
        if target.endswith(leaf):
            found |= dict(enumerate(block.reshape(rule.rest[0], -1)[0].tolist(), place[-1]))
    return [found[column] for column in range(len(found))]


def test_qwen3_next_projections_are_ungrouped():
    # Two key heads of 16; each has 16 query, 16 key, 2 x 16 value and 2 x 16 gate rows: 96 in all.
    start = "model.layers.0.linear_attn."
    q = [*range(16), *range(96, 112)]
    k = [*range(16, 32), *range(112, 128)]
    v = [*range(32, 64), *range(128, 160)]
    assert columns("qwen3_next", start + "in_proj_qkvz.weight", "in_proj_qkv/kernel") == q + k + v
    assert columns("qwen3_next", start + "in_proj_qkvz.weight", "in_proj_z/kernel") == [
        *range(64, 96),
        *range(160, 192),
    ]
    assert columns("qwen3_next", start + "in_proj_ba.weight", "in_proj_b/kernel") == [0, 1, 4, 5]
    assert columns("qwen3_next", start + "in_proj_ba.weight", "in_proj_a/kernel") == [2, 3, 6, 7]


def test_queries_and_output_gates_alternate_by_head():
    tensor = "model.layers.3.self_attn.q_proj.weight"
    queries = [row for head in range(4) for row in range(128 * head, 128 * head + 64)]
    assert columns("qwen3_5_dense", tensor, "q_proj/kernel") == queries
    assert columns("qwen3_5_dense", tensor, "gate_proj/kernel") == [row + 64 for row in queries]


def test_layers_go_to_their_period_and_place():
    config = config_of("qwen3_5_dense") | {"num_hidden_layers": 8}
    config["layer_types"] = config["layer_types"] * 2
    model = parse_config(config)
    rules = key_map(model.config, model.family, Layout())
    assert [rules[f"model.layers.{n}.input_layernorm.weight"].lead for n in (0, 2, 3, 4, 6, 7)] == [
        (0, 0), (0, 2), (0, 0), (1, 0), (1, 2), (1, 0),
    ]  # fmt: skip
    assert rules["model.layers.7.input_layernorm.weight"].parts[0].leaf == "decoder/periods/attention_1/input_norm"
