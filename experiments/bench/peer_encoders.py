"""The peers of the bench `encoders`: transformers' AuT of Qwen3-Omni and its vision towers, on torch.

Run by `experiments.bench.peer` in an interpreter that has the extra `peer`.
"""

from collections.abc import Callable
from typing import Any

from experiments.bench.peer import serve


def start(threads: int) -> Callable[[dict[str, Any]], Callable[[], Any]]:
    import torch
    import transformers
    from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen3_5
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as qwen3_omni

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    classes = {
        "aut": qwen3_omni.Qwen3OmniMoeAudioEncoder,
        "qwen3_5 vit": qwen3_5.Qwen3_5VisionModel,
        "qwen3_omni vit": qwen3_omni.Qwen3OmniMoeVisionEncoder,
    }

    def model_of(form: dict[str, Any]) -> Any:
        torch.manual_seed(0)
        of = classes[form["encoder"]]
        return of._from_config(of.config_class(**form["config"]), attn_implementation=form["attention"]).eval()

    def normal(*shape: int) -> Any:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(0))

    def prepare(form: dict[str, Any]) -> Callable[[], Any]:
        model = model_of(form)
        if form["encoder"] == "aut":
            features, lengths = normal(model.config.num_mel_bins, form["frames"]), torch.tensor([form["frames"]])
            encode = lambda: model(features, feature_lens=lengths)  # noqa: E731
        else:
            grids = torch.tensor(form["grids"])
            patches = normal(int(grids.prod(1).sum()), form["patch"])
            encode = lambda: model(patches, grid_thw=grids)  # noqa: E731

        @torch.no_grad()
        def tokens() -> None:
            found = encode().pooler_output.shape[0]
            if found != form["tokens"]:
                raise ValueError(f"{found} tokens, {form['tokens']} of ours")

        return tokens

    return prepare


if __name__ == "__main__":
    serve(start)
