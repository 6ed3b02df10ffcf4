"""The peer of the bench `decoder`: transformers' Qwen3.5-MoE text model on torch.

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
        if "model" not in models:
            torch.manual_seed(0)
            models["config"] = transformers.Qwen3_5MoeTextConfig(**form["config"])
            models["model"] = transformers.Qwen3_5MoeForCausalLM(models["config"])
        model = models["model"]
        model.set_experts_implementation(form["experts"])
        model.zero_grad(set_to_none=True)
        return model.train(form["what"] == "train")

    def tokens(model: Any, rows: int, steps: int) -> Any:
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, model.config.vocab_size, (rows, steps), generator=generator)

    def prefill(form: dict[str, Any]) -> Callable[[], Any]:
        model = model_of(form)
        ids = tokens(model, form["rows"], form["steps"])
        return lambda: torch.no_grad()(model)(input_ids=ids, use_cache=True, logits_to_keep=1)

    def decode(form: dict[str, Any]) -> Callable[[], Any]:
        model = model_of(form)
        cache = transformers.DynamicCache(config=models["config"])

        @torch.no_grad()
        def read(ids: Any) -> Any:
            out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            return out.logits[:, -1:].argmax(-1)

        last = read(tokens(model, form["rows"], form["context"]))

        def steps() -> None:
            nonlocal last
            for _ in range(form["steps"]):
                last = read(last)

        return steps

    def train(form: dict[str, Any]) -> Callable[[], Any]:
        model = model_of(form)
        ids = tokens(model, form["rows"], form["steps"])

        def step() -> None:
            model.zero_grad(set_to_none=True)
            model(input_ids=ids, labels=ids, output_router_logits=True).loss.backward()

        return step

    return lambda form: {"prefill": prefill, "decode": decode, "train": train}[form["what"]](form)


if __name__ == "__main__":
    serve(start)
