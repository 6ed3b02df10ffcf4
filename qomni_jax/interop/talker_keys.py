"""Which released tensor holds which part of the parameters of Qwen3-Omni's Talker."""

from collections.abc import Iterable

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.interop.key_map import Rule, layer_rules, matrix, rows, scoped

# A tensor of the Talker by whose name its prefix is found in a checkpoint of a whole model.
ANCHOR = "codec_head.weight"


def talker_key_map(config: Qwen3OmniTalkerConfig, prefix: str = "", experts: str = "per_expert") -> dict[str, Rule]:
    """Released name -> rule, for every tensor of a Talker; `experts` as in `key_map.Layout`."""
    c, dim = config, config.decoder.model_dim
    rules = [
        rows("model.codec_embedding.weight", "codec_embedding", c.vocab_size, dim),
        *layer_rules(c.decoder, "model.", experts),
        rows("model.norm.weight", "decoder/norm", dim),
        matrix("codec_head.weight", "codec_head/kernel", c.vocab_size, dim),
    ]
    for name in ("text_projection", "hidden_projection"):
        for number, (out, inner) in enumerate(((c.projection_dim, c.thinker_dim), (dim, c.projection_dim)), 1):
            theirs, ours = f"{name}.linear_fc{number}.", f"{name}/fc{number}/"
            rules += [matrix(theirs + "weight", ours + "kernel", out, inner), rows(theirs + "bias", ours + "bias", out)]
    predictor = [*layer_rules(c.predictor, "model.", experts), rows("model.norm.weight", "decoder/norm", dim)]
    for level in range(c.num_codebooks - 1):
        codebook = [
            scoped(rows("weight", "codec_embedding", c.codebook_size, dim), f"model.codec_embedding.{level}.", ""),
            scoped(matrix("weight", "lm_head", c.codebook_size, dim), f"lm_head.{level}.", ""),
        ]
        predictor += [rule._replace(lead=(level,)) for rule in codebook]
    rules += [scoped(rule, "code_predictor.", "code_predictor/") for rule in predictor]
    return {prefix + rule.name: scoped(rule, prefix, "") for rule in rules}


def find_experts(names: Iterable[str], prefix: str) -> str:
    """How the names of a Talker's experts show them: `fused` or `per_expert`."""
    fused = (name.startswith(prefix + "model.layers.") and name.endswith("experts.gate_up_proj") for name in names)
    return "fused" if any(fused) else "per_expert"
