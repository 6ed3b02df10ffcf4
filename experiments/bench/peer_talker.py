"""The peer of the bench `talker`: transformers' Qwen3-Omni on torch, from a checkpoint on disk to samples.

Run by `experiments.bench.peer` in an interpreter that has the extra `peer`.
"""

from collections.abc import Callable
from typing import Any

from experiments.bench.peer import serve


def start(threads: int) -> Callable[[dict[str, Any]], Callable[[], Any]]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    models: dict[str, Any] = {}

    def model_of(form: dict[str, Any]) -> Any:
        if form["experts"] not in models:
            models[form["experts"]] = transformers.Qwen3OmniMoeForConditionalGeneration.from_pretrained(
                form["checkpoint"], dtype=torch.float32, experts_implementation=form["experts"]
            ).eval()
        return models[form["experts"]]

    def prepare(form: dict[str, Any]) -> Callable[[], Any]:
        model = model_of(form)
        ids = torch.tensor([form["ids"]])
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if form["frames"]:
            generator = torch.Generator().manual_seed(0)
            inputs["input_features"] = torch.randn(1, form["mels"], form["frames"], generator=generator)
            inputs["feature_attention_mask"] = torch.ones(1, form["frames"], dtype=torch.long)
        lengths = {
            "thinker_max_new_tokens": form["tokens"],
            "thinker_min_new_tokens": form["tokens"],
            "thinker_eos_token_id": form["stop"],
            # The last code is drawn and dropped.
            "talker_max_new_tokens": form["codes"] + 1,
            "talker_min_new_tokens": form["codes"] + 1,
        }

        def answer() -> None:
            said, samples = model.generate(
                **inputs, speaker=form["voice"], thinker_do_sample=False, talker_do_sample=False, **lengths
            )
            found = {"tokens": said.shape[1] - ids.shape[1], "samples": samples.shape[-1]}
            wanted = {name: form[name] for name in found}
            if found != wanted:
                raise ValueError(f"{found}: accepted is {wanted}, as of ours")

        return answer

    return prepare


if __name__ == "__main__":
    serve(start)
