"""The peer of the bench `gated_delta_rule`: transformers' chunked rule on torch, and a rewrite that is linear in T.

Run by `experiments.bench.peer` in an interpreter that has the extra `peer`.
"""

from collections.abc import Callable
from typing import Any

from experiments.bench.peer import serve

CHUNK = 64


def start(threads: int) -> Callable[[dict[str, Any]], Callable[[], Any]]:
    import torch
    import transformers
    from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as released

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)

    def reference(q: Any, k: Any, v: Any, g: Any, beta: Any) -> Any:
        return released.torch_chunk_gated_delta_rule(
            q, k, v, g=g, beta=beta, chunk_size=CHUNK, output_final_state=True, use_qk_l2norm_in_kernel=True
        )[0]

    def rewrite(q: Any, k: Any, v: Any, g: Any, beta: Any) -> Any:
        """The same chunks, taken apart by `unbind` and put together by `stack`: no slice of a long tensor is written
        or read in the loop, so that the backward pass does not build a full-length gradient for every chunk."""

        def chunked(x: Any) -> Any:  # [B, T, H, ...] -> [B, H, N, C, ...]
            return x.transpose(1, 2).unflatten(2, (-1, CHUNK))

        def unit(x: Any) -> Any:
            return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)

        q, k, v, g, beta = (chunked(x) for x in (unit(q) * q.shape[-1] ** -0.5, unit(k), v, g, beta))
        total = g.cumsum(-1)
        above = torch.ones(CHUNK, CHUNK, dtype=torch.bool).triu(1)
        decay = (total[..., :, None] - total[..., None, :]).masked_fill(above, float("-inf")).exp()
        from_start, to_end = total.exp()[..., None], (total[..., -1:] - total).exp()[..., None]
        written = beta[..., None] * k
        right = torch.cat([beta[..., None] * v, from_start * written], -1)
        lower = (written @ k.mT) * decay
        values, keys = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True).split(
            v.shape[-1], -1
        )
        scores = (q @ k.mT) * decay
        parts = (values, keys, scores, from_start * q, (to_end * k).mT, from_start[..., -1:, :])
        state, outputs = torch.zeros(*v.shape[:2], k.shape[-1], v.shape[-1]), []
        for value, key, score, query, key_end, left in zip(*(x.unbind(2) for x in parts), strict=True):
            update = value - key @ state
            outputs.append(query @ state + score @ update)
            state = left * state + key_end @ update
        return torch.stack(outputs, 2).flatten(2, 3).transpose(1, 2)

    def inputs(steps: int, heads: int, dim: int) -> list[Any]:
        generator = torch.Generator().manual_seed(0)
        q, k, v = (torch.randn(1, steps, heads, dim, generator=generator) for _ in range(3))
        g, beta = (torch.randn(1, steps, heads, generator=generator) for _ in range(2))
        return [q, k, v, torch.nn.functional.logsigmoid(g), torch.sigmoid(beta)]

    def prepare(form: dict[str, Any]) -> Callable[[], Any]:
        rule = {"transformers": reference, "rewrite": rewrite}[form["impl"]]
        if form["impl"] == "rewrite":
            small = inputs(2 * CHUNK, 2, 32)
            if not torch.allclose(rewrite(*small), reference(*small), atol=1e-5):
                raise ValueError("the rewrite differs from the reference")
        args = inputs(form["steps"], form["heads"], form["dim"])
        if form["mode"] == "fwd":
            return lambda: torch.no_grad()(rule)(*args)
        for x in args:
            x.requires_grad_(True)

        def forward_and_backward() -> None:
            for x in args:
                x.grad = None
            rule(*args).square().mean().backward()

        return forward_and_backward

    return prepare


if __name__ == "__main__":
    serve(start)
