"""Goldens of a text model: logits, hidden states, routing, caches, padding, generation, loss and gradients.

What the names mean, for T tokens a row (`input_ids [B, T]`):
  logits, logits_b1         of the first rows, as many as the tensor has, without padding
  hidden_<n>                of the same rows: embeddings (0), the output of layer n - 1, and last after the final norm
  router_logits_<n>         of the same rows, rows and tokens in one axis
  aux_loss*, loss, grad.<p> load balancing over all layers; next-token cross entropy plus weighted aux_loss; its
                            gradient for the released parameter p
  cache_conv_<n>            inputs of the convolution, `[B, channels, last tokens]`, zeros before the first
  cache_rec_<n>, cache_k_<n>, cache_v_<n>   state, keys and values of layer n after the same rows
  logits_leftpad            of all rows under `attention_mask`
  logits_row<r>_unpadded    of row r's unmasked tokens alone
  logits_cached             of the first rows, from a prefill, then single tokens, then a chunk
  greedy_from<p>            the first p tokens of the first row and the likeliest continuation
"""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import re
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from qomni_jax.config.decoder import LanguageModelConfig
from qomni_jax.interop.key_map import Layout, Rule, key_map
from qomni_jax.interop.save import gather
from qomni_jax.interop.storage import Description
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.layers.attention import AttentionCache
from qomni_jax.layers.decoder import Cache, RouterStats, layer_intermediates, places
from qomni_jax.layers.gated_delta_net import GatedDeltaNetCache
from qomni_jax.layers.language_model import LanguageModel, LanguageModelOutput, empty_language_model_cache
from qomni_jax.ops.moe.router import load_balancing_loss
from qomni_jax.storage.arrays import flat
from qomni_jax.storage.errors import CheckpointError

CHUNK = 16  # tokens

_INPUTS = {"input_ids", "attention_mask"}


def matches(names: set[str]) -> bool:
    """A file with tokens, and no other head's inputs."""
    return "input_ids" in names and "main_hidden" not in names


def inputs(names: set[str]) -> set[str]:
    """Tokens and their mask."""
    return names & _INPUTS


def compute(
    golden: Golden, description: Description, parameters: Any, *, exact: bool = False
) -> Iterator[tuple[str, np.ndarray]]:
    """Our value of every tensor whose name is understood and whose inputs are there; `exact` as in `precise`."""
    model = _TextModel(golden, description, parameters, exact)
    for name, wanted in golden.items():
        for pattern, function in _MEANINGS:
            match = re.fullmatch(pattern, name)
            value = function(model, wanted, *match.groups()) if match else None
            if value is not None:
                yield name, np.asarray(value)
                break


class _TextModel:
    """The model on one golden's tokens; what several tensors need is computed once."""

    def __init__(self, golden: Golden, description: Description, parameters: Any, exact: bool):
        self.description = with_stacked_layers(description, exact=exact)
        self.config = self.description.config
        self.parameters = parameters
        self.tokens = golden["input_ids"]
        self.mask = golden.get("attention_mask")
        if self.tokens.min() < 0 or self.tokens.max() >= self.config.vocab_size:
            raise CheckpointError(f"input_ids: accepted are tokens in 0..{self.config.vocab_size - 1} (vocab_size)")
        first = next((golden[name] for name in ("logits", "logits_b1", "hidden_0") if name in golden), None)
        self.rows = self.tokens[: 1 if first is None else first.shape[0]]
        self._model = LanguageModel(self.config)
        self._apply = jax.jit(
            lambda parameters, tokens, **rest: self._model.apply({"params": parameters}, tokens, **rest)
        )
        self._sow = jax.jit(
            lambda parameters, tokens: self._model.apply({"params": parameters}, tokens, mutable=["intermediates"])
        )

    @functools.cached_property
    def layers(self) -> list[dict[str, Array]]:
        """What the layers sowed on `rows`."""
        decoder = self._sowed[1]["intermediates"]["decoder"]
        return layer_intermediates(self.config.decoder, decoder)

    @functools.cached_property
    def output(self) -> LanguageModelOutput:
        """Of `rows`."""
        return self._sowed[0]

    @functools.cached_property
    def loss_and_gradients(self) -> tuple[Array, dict[str, Array]]:
        """Next-token cross entropy of `rows` plus the weighted load-balancing loss; gradients by our arrays' names."""

        def loss(parameters: Any) -> Array:
            out = self._model.apply({"params": parameters}, self.rows)
            predicted = jax.nn.log_softmax(out.logits[:, :-1])
            chosen = jnp.take_along_axis(predicted, self.rows[:, 1:, None], axis=-1)
            return -jnp.mean(chosen) + self.config.router_aux_weight * aux_loss(out.router)

        value, gradients = jax.jit(jax.value_and_grad(loss))(self.parameters)
        return value, flat(gradients)

    @functools.cached_property
    def caches(self) -> tuple[Cache, Cache]:
        """After all tokens of `rows` but one, and after all: together they hold one more of the convolution's inputs
        than a single one, as many as the reference keeps."""
        batch, steps = self.rows.shape
        _, before = self.step(self.rows[:, :-1], empty_language_model_cache(self.config, batch, steps))
        return before, self.step(self.rows[:, -1:], before)[1]

    @functools.cached_property
    def released_rules(self) -> dict[str, Rule]:
        """Released name -> rule, whatever the checkpoint's own layout is."""
        rules: dict[str, Rule] = {}
        for prefix in ("model.", "model.language_model."):
            for experts in ("fused", "per_expert"):
                layout = Layout(prefix, experts, experts)
                rules |= key_map(self.config, self.description.family, layout)
        return rules

    def step(self, tokens: np.ndarray, cache: Cache) -> tuple[Array, Cache]:
        """Logits of tokens that go on from a cache, and the cache after them."""
        out: LanguageModelOutput = self._apply(self.parameters, tokens, cache=cache)
        assert out.cache is not None
        return out.logits, out.cache

    def forward(self, tokens: np.ndarray, mask: np.ndarray | None = None) -> LanguageModelOutput:
        """One pass without a cache."""
        return self._apply(self.parameters, tokens, mask=mask)

    def layer_cache(self, cache: Cache, number: int) -> Any:
        """The cache of one layer of the stacked decoder."""
        order = list(dict.fromkeys(run for run, _, _ in places(self.config.decoder)))
        run, period, at = places(self.config.decoder)[number]
        return jax.tree.map(lambda a: a[period, at], cache.layers[order.index(run)])

    @functools.cached_property
    def _sowed(self) -> Any:
        return self._sow(self.parameters, self.rows)


def with_stacked_layers(description: Description, *, exact: bool = False) -> Description:
    """The same model with stacked layers, computed as `precise` says."""
    config = precise(description.config, exact=exact)
    decoder = dataclasses.replace(config.decoder, stacked=True)
    return description._replace(config=dataclasses.replace(config, decoder=decoder))


def precise(config: LanguageModelConfig, *, exact: bool = False) -> LanguageModelConfig:
    """The same model in float32, which the tolerances assume, and with short chunks: rounding errors of the delta rule
    grow with their length. `exact`: in float64 (64-bit mode), every part in the form that is its contract."""
    decoder = config.decoder
    gdn = dataclasses.replace(decoder.gdn, chunk_size=CHUNK)
    attention, feed_forward = decoder.attention, decoder.feed_forward
    if exact:
        gdn = dataclasses.replace(gdn, backend="reference")
        attention = dataclasses.replace(attention, backend="reference")
        feed_forward = dataclasses.replace(feed_forward, backend="reference")
    decoder = dataclasses.replace(decoder, gdn=gdn, attention=attention, feed_forward=feed_forward)
    return dataclasses.replace(config, decoder=decoder, dtype="float64" if exact else "float32")


def aux_loss(router: RouterStats) -> Array:
    """Load balancing over the tokens of all layers together, 0 without experts."""
    if not router.chosen.shape[-1]:
        return jnp.zeros(())
    return load_balancing_loss(router.chosen.sum(0), router.probability.sum(0), router.tokens.sum())


def _hidden(model: _TextModel, wanted: np.ndarray, number: str) -> Any:
    last = model.config.decoder.num_layers
    if int(number) > last:
        return None
    if int(number) == last:
        return model.output.hidden
    if int(number) == 0:
        return model.parameters["embed_tokens"][model.rows]
    return model.layers[int(number) - 1]["hidden"]


def _router_logits(model: _TextModel, wanted: np.ndarray, number: str) -> Any:
    if int(number) >= model.config.decoder.num_layers or not model.config.decoder.feed_forward.num_experts:
        return None
    logits = model.layers[int(number)].get("router_logits")
    return None if logits is None else logits.reshape(wanted.shape)


def _convolution_cache(model: _TextModel, wanted: np.ndarray, number: str) -> Any:
    before, after = (model.layer_cache(cache, int(number)) for cache in model.caches)
    if not isinstance(after, GatedDeltaNetCache):
        return None
    inputs = jnp.concatenate([before.conv[:, :1], after.conv], axis=1)
    return jnp.swapaxes(inputs, 1, 2)[:, :, -wanted.shape[2] :]


def _state(model: _TextModel, wanted: np.ndarray, number: str) -> Any:
    cache = model.layer_cache(model.caches[1], int(number))
    return cache.state if isinstance(cache, GatedDeltaNetCache) else None


def _attention_cache(model: _TextModel, wanted: np.ndarray, which: str, number: str) -> Any:
    cache = model.layer_cache(model.caches[1], int(number))
    if not isinstance(cache, AttentionCache):
        return None
    return cache.keys if which == "k" else cache.values


def _left_padded(model: _TextModel, wanted: np.ndarray) -> Any:
    return None if model.mask is None else model.forward(model.tokens, model.mask).logits


def _row_alone(model: _TextModel, wanted: np.ndarray, row: str) -> Any:
    if model.mask is None or int(row) >= len(model.tokens):
        return None
    return model.forward(model.tokens[int(row)][model.mask[int(row)] > 0][None]).logits


def _cached(model: _TextModel, wanted: np.ndarray) -> Any:
    """A prefill of two thirds, ten single tokens, and the rest as one chunk."""
    tokens = model.tokens[: wanted.shape[0]]
    steps = tokens.shape[1]
    prefill = max(1, 2 * steps // 3)
    single = min(prefill + 10, steps)
    ends = [prefill, *range(prefill + 1, single + 1), *([steps] if single < steps else [])]
    cache = empty_language_model_cache(model.config, len(tokens), steps)
    logits = []
    for first, last in zip([0, *ends], ends, strict=False):
        found, cache = model.step(tokens[:, first:last], cache)
        logits.append(found)
    return jnp.concatenate(logits, axis=1)


def _greedy(model: _TextModel, wanted: np.ndarray, prompt: str) -> Any:
    tokens = model.tokens[: wanted.shape[0], : int(prompt)]
    logits, cache = model.step(tokens, empty_language_model_cache(model.config, len(tokens), wanted.shape[1]))
    while True:
        tokens = np.concatenate([tokens, np.argmax(logits[:, -1:], axis=-1)], axis=1)
        if tokens.shape[1] >= wanted.shape[1]:
            return tokens
        logits, cache = model.step(tokens[:, -1:], cache)


def _loss(model: _TextModel, wanted: np.ndarray) -> Any:
    return model.loss_and_gradients[0].reshape(wanted.shape)


def _gradient(model: _TextModel, wanted: np.ndarray, name: str) -> Any:
    rule = model.released_rules.get(name)
    return None if rule is None else gather(rule, model.loss_and_gradients[1], 0, rule.groups)


_MEANINGS: tuple[tuple[str, Callable[..., Any]], ...] = (
    (r"logits(?:_b\d+)?", lambda model, wanted: model.output.logits),
    (r"hidden_(\d+)", _hidden),
    (r"router_logits_(\d+)", _router_logits),
    (r"aux_loss(?:_b\d+)?", lambda model, wanted: aux_loss(model.output.router).reshape(wanted.shape)),
    (r"cache_conv_(\d+)", _convolution_cache),
    (r"cache_rec_(\d+)", _state),
    (r"cache_(k|v)_(\d+)", _attention_cache),
    (r"logits_leftpad", _left_padded),
    (r"logits_row(\d+)_unpadded", _row_alone),
    (r"logits_cached", _cached),
    (r"greedy_from(\d+)", _greedy),
    (r"loss", _loss),
    (r"grad\.(.+)", _gradient),
)
