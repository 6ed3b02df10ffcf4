"""The peers of the bench `codec`: transformers' Code2Wav and Mimi on torch.

Run by `experiments.bench.peer` in an interpreter that has the extra `peer`.
"""

from collections.abc import Callable
from typing import Any

from experiments.bench.peer import serve


def start(threads: int) -> Callable[[dict[str, Any]], Callable[[], Any]]:
    import torch
    import transformers
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as qwen3_omni

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)

    def code2wav(form: dict[str, Any]) -> Callable[[], Any]:
        model = qwen3_omni.Qwen3OmniMoeCode2Wav(qwen3_omni.Qwen3OmniMoeCode2Wav.config_class(**form["config"])).eval()
        codes = torch.zeros(1, form["config"]["num_quantizers"], form["frames"], dtype=torch.long)
        return (lambda: model(codes)) if form["at_once"] else (lambda: model.chunked_decode(codes))

    def mimi(form: dict[str, Any]) -> Callable[[], Any]:
        model = transformers.MimiModel(transformers.MimiConfig(**form["config"])).eval()
        if form["what"] == "encode":
            samples = torch.randn(1, 1, form["frames"] * form["samples"], generator=torch.Generator().manual_seed(0))
            return lambda: model.encode(samples).audio_codes
        codes = torch.zeros(1, form["config"]["num_quantizers"], form["frames"], dtype=torch.long)
        return lambda: model.decode(codes).audio_values

    def prepare(form: dict[str, Any]) -> Callable[[], Any]:
        torch.manual_seed(0)
        return torch.no_grad()((mimi if form["codec"] == "mimi" else code2wav)(form))

    return prepare


if __name__ == "__main__":
    serve(start)
