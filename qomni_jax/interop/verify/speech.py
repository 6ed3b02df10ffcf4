"""Goldens of a whole Qwen3-Omni: a prompt, its greedy answer in text, and the speech of it.

`<p>` is `text_`, `au_` and `vi_`, or nothing where a file is of one prompt.

<p>input_ids and media as in `verify.thinker`; <p>seq, <p>wav      one prompt; it with the answer; samples [1, 1, n]
talker_input_ids, talker_inputs_embeds, trailing_text_hidden, tts_pad_embed
                       the Talker's prompt, its tokens and embedded; the rest of the text, embedded, and what follows it
codes                  [1, Q, S]

The voice is Ethan's, as the reference has it where none is asked for. Draws are greedy, but for the penalty on codes of
codebook 0 that were said, which the reference keeps when it is told not to sample. Answers are as long as the golden's.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax
import numpy as np

from qomni_jax.codec.waveform_codec import WaveformCodec
from qomni_jax.config.qwen3_omni_talker import RELEASED_SAMPLING
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.prompts import Prompt
from qomni_jax.inference.qwen3_omni_speech import SpeakingGenerator, SpeakingModel
from qomni_jax.interop.talker_model import OpenedQwen3Omni
from qomni_jax.interop.verify import thinker
from qomni_jax.interop.verify.golden import Golden
from qomni_jax.thinker import Example, Thinker, place_media

_PROMPTS = ("text_", "au_", "vi_", "")
_VOICE = "Ethan"
_GREEDY = SamplingConfig(repetition_penalty=RELEASED_SAMPLING.repetition_penalty)


def matches(names: set[str]) -> bool:
    """A file with a prompt, and the samples of the answer."""
    return any({f"{prefix}input_ids", f"{prefix}wav"} <= names for prefix in _PROMPTS)


def inputs(names: set[str]) -> set[str]:
    """Tokens and what the encoders read, of all prompts."""
    return {prefix + name for prefix in _PROMPTS for name in thinker.inputs(_below(names, prefix))}


def compute(golden: Golden, model: OpenedQwen3Omni, parameters: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor whose name is understood."""
    model = _precise(model)
    parts = {prefix: _below(set(golden), prefix) for prefix in _PROMPTS}
    parts = {prefix: names for prefix, names in parts.items() if {"input_ids", "wav"} <= names}
    wavs, rows = ([golden[prefix + name].shape[-1] for prefix in parts] for name in ("wav", "seq"))
    speaking = SpeakingModel(
        model.thinker.stored.config.language_model,
        parameters["thinker"]["language_model"],
        model.talker,
        parameters["talker"],
        WaveformCodec(model.codec, parameters["codec"]),
        model.tokens,
    )
    generator = SpeakingGenerator(
        speaking,
        capacity=max(rows),
        max_frames=(max(wavs) + model.codec.decoder.delay) // model.codec.samples_per_frame,
        talker_sampling=_GREEDY,
    )
    for prefix, names in parts.items():
        found = _answer({name: golden[prefix + name] for name in names}, model, parameters["thinker"], generator)
        yield from ((prefix + name, value) for name, value in found.items() if name in names)


def _answer(
    golden: Golden, model: OpenedQwen3Omni, thinker_parameters: Any, generator: SpeakingGenerator
) -> dict[str, np.ndarray]:
    sequence = thinker.read_sequence(golden, model.thinker, "input_ids")
    example = Example(sequence, *thinker.read_media(golden, model.thinker))
    config = model.thinker.stored.config
    media, (slots,) = place_media([example], config)
    features = None
    if media is not None:
        encode = jax.jit(lambda parameters: Thinker(config).apply({"params": parameters}, media, method=Thinker.encode))
        features = encode(thinker_parameters)
    prompt = Prompt(sequence.tokens, sequence.positions, slots)
    new_tokens = golden["seq"].shape[1] - len(sequence.tokens)
    answer = generator.answer([prompt], new_tokens, _VOICE, features=features)[0]
    found = {
        "seq": np.concatenate([sequence.tokens, answer.tokens])[None],
        "codes": answer.codes.T[None],
        "wav": answer.samples[None, None],
    }
    if "talker_inputs_embeds" in golden:
        found |= _talker_inputs(generator, prompt, features, answer.tokens)
    return found


def _talker_inputs(generator: SpeakingGenerator, prompt: Prompt, features: Any, said: list[int]) -> dict[str, Any]:
    talker, tokens = generator.talker, generator.model.tokens
    laid_out = generator.talker_prompt(prompt, said[0], talker.config.tokens.speaker(_VOICE))
    hidden = generator.thinker.prefill([prompt], features).kept
    stacked = talker.stack([laid_out], hidden)
    head = laid_out.codes.size - int(np.argmax(laid_out.codes >= 0)) + 3  # the answer's, whose text the golden hides
    return {
        "talker_input_ids": np.concatenate([laid_out.text[:-head], np.full(head, tokens.tts_pad)])[None],
        "talker_inputs_embeds": np.asarray(stacked.embeddings(0, len(laid_out.text))),
        "trailing_text_hidden": np.asarray(talker.embed_text(np.array([generator.following(said[:-1])]))),
        "tts_pad_embed": np.asarray(talker.embed_text(np.array([[tokens.tts_pad]]))),
    }


def _below(names: set[str], prefix: str) -> set[str]:
    """The names of one prompt's tensors, without its prefix."""
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _precise(model: OpenedQwen3Omni) -> OpenedQwen3Omni:
    stored = model.thinker.stored
    stored = stored._replace(config=thinker.precise_thinker(stored.config, exact=False))
    return model._replace(
        thinker=model.thinker._replace(stored=stored),
        talker=dataclasses.replace(model.talker, dtype="float32"),
        codec=dataclasses.replace(model.codec, dtype="float32"),
    )
