"""What is asked of a Talker with voices when it is measured, and what it says."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from data_pipelines.records import RecordSource
from experiments.voice.config import VoicePromptConfig
from experiments.voice.examples import VoiceExamples
from qomni_jax.codec import Codec, griffin_lim
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.speech import Speaker, SpeechRequest
from qomni_jax.talker.storage import StoredTalker
from qomni_jax.talker.style import STYLE_WORDS
from qomni_jax.talker.voice_prompt import make_voice

BATCH_SIZE = 32  # rows of one generation batch: one compilation serves all
DECODERS = ("vocoder", "griffin_lim")
NATURAL, RESYNTHESIS, NOTHING, CLONE = "natural", "resynthesis", "no prompt", "reference"


@dataclasses.dataclass(frozen=True)
class Case:
    """One sentence in one way: `target` is the recording that says it in this voice, `reference` those before it, both
    by their number; `style` the word of its description, if any. `condition` names the way."""

    condition: str
    target: int
    reference: tuple[int, ...]
    style: str = ""
    has_reference: bool = False

    @property
    def is_spoken(self) -> bool:
        """Whether the Talker says it: recordings and their resynthesis are there for comparison."""
        return self.condition not in (NATURAL, RESYNTHESIS)


class HeldOutVoices:
    """Recordings of voices, in codes, as targets and references."""

    def __init__(self, source: RecordSource, stored: StoredTalker, prompts: VoicePromptConfig):
        records = list(source)
        self.codes = stored.codec.encode_audio([record["audio"] for record in records])
        coded = [{**record, "codes": codes} for record, codes in zip(records, self.codes, strict=True)]
        frame_rate = stored.codec.config.frame_rate
        examples = VoiceExamples(coded, stored.tokenizer, stored.durations, prompts, frame_rate)
        self.records, self.examples = records, examples

    def audio(self, indices: Sequence[int]) -> np.ndarray:
        """These recordings, one after the other, float32 `[n]`."""
        return np.concatenate([self.records[index]["audio"] for index in indices]).astype(np.float32) / 32_768

    def cases(self, clones: int, styled: int, seed: int = 0) -> list[Case]:
        """`clones` sentences of each voice in every way without a description, and of them `styled` with every word."""
        rng = np.random.default_rng(seed)
        found = []
        for members in self.examples.members.values():
            for number, target in enumerate(rng.permutation(members)[:clones].tolist()):
                reference = tuple(self.examples.reference_of(target, (), rng))
                found += [Case(condition, target, reference) for condition in (NATURAL, RESYNTHESIS, NOTHING)]
                found.append(Case(CLONE, target, reference, has_reference=True))
                for word in STYLE_WORDS if number < styled else ():
                    found.append(Case("style", target, reference, word))
                    found.append(Case("style + reference", target, reference, word, has_reference=True))
        return found


def say(
    cases: Sequence[Case], voices: HeldOutVoices, stored: StoredTalker, sampling: SamplingConfig, decoder: str
) -> list[np.ndarray]:
    """The waveform `[n]` of each case, a frame of silence where nothing is said; one sentence has the same random draws
    in all of them. `decoder`: one of `DECODERS`."""
    requests = []
    for case in cases:
        if case.is_spoken:
            audio, transcript = None, None
            if case.has_reference:
                audio, transcript = voices.audio(case.reference), voices.examples.transcript(case.reference)
            voice = make_voice(stored, audio=audio, transcript=transcript, style=case.style)
            said = stored.tokenizer.encode(voices.records[case.target]["text"])
            requests.append(SpeechRequest(voice.prompt, said, voice.rate, key=case.target))
    spoken = iter(Speaker.of(stored, sampling).speak(requests, BATCH_SIZE))
    codes = [next(spoken).codes if case.is_spoken else voices.codes[case.target] for case in cases]
    silence = np.zeros(stored.codec.config.samples_per_frame, np.float32)
    return [
        voices.audio([case.target]) if case.condition == NATURAL else wave if len(wave) else silence
        for case, wave in zip(cases, _decode(stored.codec, codes, decoder), strict=True)
    ]


def _decode(codec: Codec, sequences: Sequence[np.ndarray], decoder: str) -> list[np.ndarray]:
    if decoder == "vocoder":
        return codec.decode_codes(sequences)
    return [
        griffin_lim(codec.decode_mel(codes), codec.config.log_mel) if len(codes) else np.zeros(0, np.float32)
        for codes in sequences
    ]
