"""A small synthetic study in a work directory, in the format that `experiments.report` reads."""

import json
import pathlib
import wave

import numpy as np

SENTENCES = {
    "short": [f"alpha bravo charlie delta {word}" for word in ("echo", "golf", "hotel", "india", "kilo", "lima")],
    "long": [f"{'alpha bravo charlie delta ' * 3}{word}" for word in ("echo", "golf", "hotel", "india")],
    "slow": ["mike november", "oscar papa"],
    "fast": ["romeo sierra", "tango uniform"],
}
LETTERS = {"aria": "ttsssstsssstsssstsssstssss", "dual_track": "bbbbb" + "s" * 15, "fixed_rate": "tssss" * 5}


def item(name: str, index: int, deleted: int, wav: str | None = None, letters: str | None = None) -> dict:
    """Sentence `index` of a set with its last `deleted` words not heard."""
    words = SENTENCES[name][index].split()
    heard = words[: len(words) - deleted]
    return {
        "id": f"{name}-{index}",
        "reference": " ".join(words),
        "hypothesis": " ".join(heard),
        "words": len(words),
        "substitutions": 0,
        "deletions": deleted,
        "insertions": 0,
        "repeats": 0,
        "early_stop": deleted > 0,
        "runaway": False,
        "seconds": 0.4 * len(heard),
        "reference_seconds": 0.4 * len(words),
        "lag": [[0.4 * place, 0.2 + 0.05 * deleted * place] for place in range(len(heard))],
        "wav": wav,
        "interleaving": letters,
    }


def write_wav(path: pathlib.Path) -> None:
    """A fifth of a second of a tone, 16 kHz PCM16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((3000 * np.sin(np.arange(3200) / 8)).astype(np.int16).tobytes())


def result(arm: str, seed: int, deleted: dict[str, int]) -> dict:
    """A training run whose every sentence of a set misses its last `deleted[set]` words; sampled misses one more."""
    return {
        "arm": arm,
        "scheme": arm,
        "label": {"aria": "ARIA", "dual_track": "Dual-track", "fixed_rate": "Fixed rate 1:4"}[arm],
        "seed": seed,
        "options": {"lead": 2} if arm == "aria" else {},
        "parameters": 2_000_000,
        "steps": 300,
        "train_seconds": 40.0,
        "train_cpu_seconds": 30.0 + 10 * seed,
        "curve": [
            {
                "step": step,
                "cpu_seconds": step / 10 * (1.2 if arm == "aria" else 1.0),
                "loss": 3 / step,
                "wer": {"short": min(1, 30 / step), "long": min(1, 60 / step)},
            }
            for step in (100, 200, 300)
        ],
        "speech": {
            "first_audio_frames": 1.0,
            "first_audio_text_tokens": 2.0,
            "first_audio_ms": 31.0,
            "real_time_factor": None,
        },
        "sets": {
            name: {
                decoding: [
                    item(name, index, deleted.get(name, 0) + more, "wavs/tone.wav", LETTERS[arm])
                    for index in range(len(SENTENCES[name]))
                ]
                for more, decoding in enumerate(("greedy", "sampled"))
            }
            for name in SENTENCES
        },
    }


def write_study(workdir: pathlib.Path) -> None:
    """Three schemes: ARIA misses nothing, dual-track two words of every long sentence, fixed-rate one of all."""
    write_wav(workdir / "wavs" / "tone.wav")
    results = workdir / "results"
    results.mkdir(parents=True, exist_ok=True)
    runs = [("aria", seed, {}) for seed in (0, 1)] + [("dual_track", seed, {"long": 2}) for seed in (0, 1)]
    runs.append(("fixed_rate", 0, dict.fromkeys(SENTENCES, 1)))
    for arm, seed, deleted in runs:
        (results / f"{arm}-seed{seed}.json").write_text(json.dumps(result(arm, seed, deleted)))
    clean = {
        name: [item(name, index, 0, "wavs/tone.wav") for index in range(len(SENTENCES[name]))] for name in SENTENCES
    }
    resynthesis = {**clean, "short": [item("short", index, int(index == 0), "wavs/tone.wav") for index in range(6)]}
    ceiling = {
        "judge": {"name": "pocketsphinx", "grammar": "26 words", "settings": {"wip": 0.05}},
        "clean": clean,
        "resynthesis": resynthesis,
        "griffin_lim": {"short": clean["short"]},
        "stoi": {"decoder": 0.85, "griffin_lim": 0.81},
        "codec": {"frames per second": 12.5, "codebooks": 4},
        "corpus": {"hours": 5.1, "utterances": 9750},
    }
    (results / "ceiling.json").write_text(json.dumps(ceiling))
    run = {
        "title": "ARIA at CPU size <synthetic>",
        "command": "python -m experiments.aria_ablation --workdir=out/demo",
        "config": "study.seeds = (0, 1)",
        "versions": {"jax": "0.10.2"},
        "machine": {"cores": 2},
        "seconds": {"corpus": 60.0, "training": 300.0},
        "started": "2026-01-01 10:00",
        "runs": 5,
    }
    (workdir / "run.json").write_text(json.dumps(run))
