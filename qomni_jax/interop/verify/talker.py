"""Goldens of Qwen3-Omni's Talker.

tx; text_projection, hidden_projection   vectors of the Thinker's, and both projections of them
inputs_embeds; logits, hidden_<n>        an embedded prompt; logits of codebook 0; what goes into the first layer (0),
                                         the output of layer n, and last after the final norm
cp_prefill_embeds, cp_forced; cp_logits  hidden state and embedded code 0 of a frame, its codes; the code predictor's
                                         logits
trailing_text_hidden, tts_pad_embed; greedy_seq, greedy_codes
                                         text that follows the prompt, and what comes after it; the likeliest codes of
                                         codebook 0, and of all in the frames before the last
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.qwen3_omni_talker import Qwen3OmniTalkerConfig
from qomni_jax.inference.prompts import stack_prompts
from qomni_jax.inference.qwen3_omni_talker import TalkerGenerator, TalkerPrompts
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.layers.decoder import layer_intermediates
from qomni_jax.talker.qwen3_omni import Qwen3OmniTalker

_INPUTS = {"tx", "inputs_embeds", "cp_prefill_embeds", "cp_forced", "trailing_text_hidden", "tts_pad_embed"}


def matches(names: set[str]) -> bool:
    """A file with an embedded prompt and a frame for the code predictor."""
    return {"inputs_embeds", "cp_prefill_embeds"} <= names


def inputs(names: set[str]) -> set[str]:
    """What is before the semicolons above."""
    return names & _INPUTS


def compute(golden: Golden, config: Qwen3OmniTalkerConfig, parameters: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood."""
    config = dataclasses.replace(config, dtype="float32")
    talker = Qwen3OmniTalker(config)
    prompt = golden["inputs_embeds"]
    positions = jnp.broadcast_to(jnp.arange(prompt.shape[1]), (3, *prompt.shape[:2]))

    def everything(model: Qwen3OmniTalker, given: dict[str, Any]) -> dict[str, Any]:
        output = model(given["inputs_embeds"], positions)
        hidden, first = jnp.moveaxis(given["cp_prefill_embeds"], 1, 0)
        return {
            "text_projection": model.text_projection(given["tx"]),
            "hidden_projection": model.hidden_projection(given["tx"]),
            "logits": output.logits,
            "hidden": output.hidden,
            "cp_logits": model.forced_logits(hidden, first, given["cp_forced"]),
        }

    @jax.jit
    def run(parameters: Any, given: Any) -> Any:
        return talker.apply({"params": parameters}, given, method=everything, mutable=["intermediates"])

    found, sowed = run(parameters, {name: jnp.asarray(golden[name]) for name in _INPUTS & golden.keys()})
    layers = layer_intermediates(config.decoder, sowed["intermediates"]["decoder"])
    found |= {f"hidden_{number}": layer["hidden"] for number, layer in enumerate(layers, 1)}
    found |= {f"hidden_{len(layers)}": found.pop("hidden"), "hidden_0": prompt}
    if "greedy_seq" in golden:
        codes = _greedy(golden, config, parameters)
        found |= {"greedy_seq": codes[:, :, 0], "greedy_codes": codes[:, :-1].swapaxes(1, 2)}
    for name in golden:
        if name in found:
            yield name, np.asarray(found[name])


def _greedy(golden: Golden, config: Qwen3OmniTalkerConfig, parameters: Any) -> np.ndarray:
    """`[B, S, Q]`."""
    prompt, frames = golden["inputs_embeds"], golden["greedy_seq"].shape[1]
    table = jnp.zeros((1, config.thinker_dim))  # no text is looked up
    generator = TalkerGenerator(config, parameters, table, capacity=prompt.shape[1] + frames)
    rows = stack_prompts([range(prompt.shape[1])] * len(prompt), generator.capacity)
    rows = rows._replace(positions=np.broadcast_to(rows.tokens, (3, *rows.tokens.shape)))
    prompts = TalkerPrompts(lambda start, end: jnp.asarray(prompt[:, start:end]), rows)
    text = np.concatenate([golden["trailing_text_hidden"], golden["tts_pad_embed"]], axis=1)
    said = generator.speak_embedded(prompts, jnp.asarray(text), frames)
    return np.stack([one.codes for one in said])
