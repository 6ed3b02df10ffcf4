"""Trains one arm with one seed, and judges its speech."""

from collections.abc import Callable, Sequence
import dataclasses
import json
from pathlib import Path
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.files import write_atomically
from experiments.judge import JudgeItem, judge
from experiments.metrics import word_error_rate
from experiments.study.config import Arm, StudyConfig
from experiments.study.items import judged_item, text_to_voice_lag, write_wav
from experiments.study.materials import Materials
from experiments.study.talker_data import PROMPT_LENGTH, TalkerData, word_of_token
from experiments.talker_batches import frame_rates, token_durations
from qomni_jax.config.sampling import SamplingConfig
from qomni_jax.inference.speech import Speaker, SpeechRequest, Spoken
from qomni_jax.talker.prompt import encode_prompt, rate_bucket
from qomni_jax.talker.schemes import make_interleaver
from qomni_jax.training.checkpoint import Checkpoints
from qomni_jax.training.loop import train
from qomni_jax.training.metrics import read_metrics
from qomni_jax.training.talker_step import init_talker_state, make_talker_step

Report = Callable[[str], None]
BATCH_SIZE = 40  # rows of one generation batch: one compilation serves every set

_OPTIONS = {  # the interleaver's fields that a scheme uses, for the report
    "aria": ("aria_paths", "min_lead", "max_lead", "inference_lead", "max_burst", "rate_margin"),
    "dual_track": ("text_delay", "text_pace", "text_stretch"),
    "fixed_rate": ("text_block", "speech_block"),
}


class TalkerRun:
    """One arm, one seed: data, parameters and speech. `run` writes `results/<arm>-seed<seed>.json`."""

    def __init__(self, config: StudyConfig, arm: Arm, seed: int, materials: Materials, workdir: Path, report: Report):
        self.config, self.arm, self.seed, self.materials, self.workdir = config, arm, seed, materials, workdir
        self.report, self.name = report, f"{arm.name}-seed{seed}"
        self.splits = arm.train_splits or config.train_splits
        self.tokenizer = materials.tokenizer(workdir, arm.vocab_size or config.vocab_size)
        self.talker = dataclasses.replace(config.talker, text_vocab_size=self.tokenizer.vocab_size)
        self.training = dataclasses.replace(config.training, seed=seed)
        records = [record for split in self.splits for record in materials.codes.split(split)]
        self.rates = frame_rates(records, self.tokenizer)
        self.durations = token_durations(records, self.tokenizer, self.rates)
        self.frame_seconds = materials.codec.config.samples_per_frame / materials.codec.config.log_mel.sample_rate
        self._curve = workdir / "talkers" / self.name / "curve.json"

    def run(self) -> None:
        """Trains (or goes on training), then speaks and judges; does nothing when the result is there."""
        path = self.workdir / "results" / f"{self.name}.json"
        if path.exists():
            return
        params, training = self._train()
        self.report(f"{self.name}: speaking and judging")
        result = {
            "arm": self.arm.name,
            "scheme": self.arm.interleaver.scheme,
            "label": self.arm.label,
            "seed": self.seed,
            "options": {
                **{name: getattr(self.arm.interleaver, name) for name in _OPTIONS[self.arm.interleaver.scheme]},
                "vocab_size": self.tokenizer.vocab_size,
                "train_splits": list(self.splits),
                "frames_per_text_token": [round(rate, 3) for rate in self.rates],
            },
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "steps": self.training.steps,
            **training,
            "curve": self._read_curve(),
            "speech": self._measure_stream(params),
            "sets": self._judge_sets(params),
        }
        write_atomically(path, json.dumps(result, indent=1))

    def _train(self) -> tuple[Any, dict[str, float]]:
        bound = {
            "arm": dataclasses.asdict(self.arm),
            "talker": dataclasses.asdict(self.talker),
            "training": dataclasses.asdict(self.training),
        }
        checkpoints = Checkpoints(self.workdir / "talkers" / self.name, bound)
        codebooks = jnp.asarray(self.materials.codec.params["rvq"]["codebooks"])
        interleaver = make_interleaver(self.arm.interleaver)
        data = TalkerData(
            self.materials.codes,
            self.splits,
            self.tokenizer,
            interleaver,
            self.talker,
            self.training,
            self.materials.codec.config.frame_rate,
            self.durations,
        )
        state = train(
            init_talker_state(self.talker, self.training, codebooks),
            make_talker_step(self.talker, self.training),
            data.loader,
            steps=self.training.steps,
            checkpoints=checkpoints,
            log_every=self.training.log_every,
            checkpoint_every=self.training.checkpoint_every,
            name=self.name,
            report=self.report,
            after_checkpoint=self._curve_point,
        )
        checkpoints.close()
        last = read_metrics(checkpoints.directory)[-1]
        return state.params, {"train_seconds": last["seconds"], "train_cpu_seconds": last["cpu_seconds"]}

    def _curve_point(self, step: int, state: Any) -> None:
        if step not in self.config.evaluation.curve_steps or any(p["step"] == step for p in self._read_curve()):
            return
        sets = self.config.evaluation.curve_sets
        records = {name: self._records(name)[: self.config.evaluation.curve_sentences] for name in sets}
        flat = [record for name in sets for record in records[name]]
        judgements = self._judge([(r, s) for r, s in zip(flat, self._speak(state.params, flat, 0.0), strict=True)])[0]
        metrics = [m for m in read_metrics(self._curve.parent) if m["step"] <= step][-1]
        point: dict[str, Any] = {
            "step": step,
            "cpu_seconds": metrics["cpu_seconds"],
            "loss": metrics["loss"],
            "wer": {},
        }
        start = 0
        for name in sets:
            end = start + len(records[name])
            point["wer"][name] = word_error_rate(judgements[start:end])
            start = end
        write_atomically(self._curve, json.dumps([*self._read_curve(), point]))
        rates = ", ".join(f"{name} {value:.1%}" for name, value in point["wer"].items())
        self.report(f"{self.name}: greedy WER after {step} steps: {rates}")

    def _read_curve(self) -> list[dict[str, Any]]:
        return json.loads(self._curve.read_text()) if self._curve.exists() else []

    def _records(self, name: str) -> list[dict[str, Any]]:
        return list(self.materials.codes.split(f"test_{name}"))

    def _speaker(self, params: Any, temperature: float) -> Speaker:
        e = self.config.evaluation
        sampling = SamplingConfig(temperature, e.top_k, seed=self.seed)
        end = self.tokenizer.end_of_text
        return Speaker(
            self.talker,
            self.arm.interleaver,
            params,
            sampling,
            end,
            max_text=e.max_text,
            durations=self.durations,
            max_prompt=PROMPT_LENGTH,
        )

    def _request(self, record: dict[str, Any], key: int) -> SpeechRequest:
        known = record["voice"] in self._voices
        prompt = encode_prompt(self.tokenizer, record["voice"] if known else None, record["rate_wpm"])
        rate = self.rates[rate_bucket(record["rate_wpm"])]
        return SpeechRequest(prompt, self.tokenizer.encode(record["text"]), rate, key)

    @property
    def _voices(self) -> set[str]:
        return {voice for split in self.config.corpus.splits if not split.held_out for voice in split.voices}

    def _speak(self, params: Any, records: Sequence[dict[str, Any]], temperature: float) -> list[Spoken]:
        requests = [self._request(record, key) for key, record in enumerate(records)]
        return self._speaker(params, temperature).speak(requests, BATCH_SIZE)

    def _judge(self, spoken: Sequence[tuple[dict[str, Any], Spoken]]) -> tuple[list[Any], list[np.ndarray]]:
        waves = self.materials.codec.decode_codes([said.codes for _, said in spoken])
        items = [JudgeItem(record["id"], wave, record["text"]) for (record, _), wave in zip(spoken, waves, strict=True)]
        return judge(items, workers=1 if self.config.workers > 1 else None), waves

    def _judge_sets(self, params: Any) -> dict[str, dict[str, list[dict[str, Any]]]]:
        e = self.config.evaluation
        sample_rate = self.materials.codec.config.log_mel.sample_rate
        records = [(name, record) for name in e.sets for record in self._records(name)]
        sets: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in e.sets}
        for decoding, temperature in (("greedy", 0.0), ("sampled", e.temperature)):
            said = self._speak(params, [record for _, record in records], temperature)
            judgements, waves = self._judge([(r, s) for (_, r), s in zip(records, said, strict=True)])
            for (name, record), spoken, judgement, wave in zip(records, said, judgements, waves, strict=True):
                rows = sets[name].setdefault(decoding, [])
                wav = None
                if name in e.player_sets and len(rows) < e.players:
                    wav = f"wavs/{self.name}/{decoding}/{record['id']}.wav"
                    write_wav(self.workdir / wav, wave, sample_rate)
                words = word_of_token(record, self.tokenizer)
                lag = text_to_voice_lag(judgement.heard, record["text"], words, spoken.steps, self.frame_seconds)
                rows.append(
                    judged_item(
                        judgement,
                        seconds=len(wave) / sample_rate,
                        reference_seconds=len(record["codes"]) * self.frame_seconds,
                        wav=wav,
                        ended=spoken.ended,
                        steps=spoken.steps,
                        lag=lag,
                    )
                )
        return sets

    def _measure_stream(self, params: Any) -> dict[str, float]:
        """One live stream, text given at once: delay to the first audio, and real-time factor, compilation apart."""
        speaker, codec = self._speaker(params, 0.0), self.materials.codec
        record = self._records("long")[0]
        figures = {}
        for _ in range(2):  # the first pass compiles
            request = self._request(record, 0)
            began = time.perf_counter()
            stream = speaker.open(request.prompt, request.rate, max_frames=request.limit)
            stream.push(request.text)
            audio, first = codec.stream(), 0.0
            samples = 0
            for frame in stream.frames():
                samples += len(audio.push(frame))
                first = first or time.perf_counter() - began
            samples += len(audio.finish())
            seconds = time.perf_counter() - began
            first_frame = next((i for i, step in enumerate(stream.steps) if step in "sb"), len(stream.steps) - 1)
            before = stream.steps[: first_frame + 1]
            figures = {
                "first_audio_frames": float(len(before)),
                "first_audio_text_tokens": float(sum(step in "tb" for step in before)),
                "first_audio_ms": 1000 * first,
                "real_time_factor": seconds / max(samples / codec.config.log_mel.sample_rate, 1e-9),
            }
        return figures
