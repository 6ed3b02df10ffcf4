"""What the test of the encoders on eight devices runs, there and in a process of its own."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from qomni_jax.audio.aut import AudioEncoder
from qomni_jax.layers.linear import unbox
from qomni_jax.parallel.mesh import make_mesh
from qomni_jax.parallel.rules import parameter_shardings
from qomni_jax.sizes import audio_encoder_tiny, vision_encoder_tiny
from qomni_jax.vision.tower import VisionEncoder


def cases() -> dict[str, tuple[Any, tuple[np.ndarray, ...]]]:
    """Module and inputs: four clips with a traced window, four frames of different sizes."""
    normal = np.random.default_rng(0).standard_normal
    frames, window = np.array([300, 170, 20, 300], np.int32), np.int32(7)
    audio = (normal((4, 300, 128), np.float32), frames, window)
    vision = (normal((4, 24, 1536), np.float32), np.array([[4, 6], [2, 2], [2, 8], [4, 4]], np.int32))
    return {
        "audio": (AudioEncoder(audio_encoder_tiny()), audio),
        "vision": (VisionEncoder(vision_encoder_tiny()), vision),
    }


def output_and_gradients(name: str, mesh: jax.sharding.Mesh | None) -> list[np.ndarray]:
    """Tokens, and the gradient of every parameter, spread over the mesh where there is one."""
    model, inputs = cases()[name]
    boxed = jax.jit(model.init)(jax.random.key(0), *inputs)
    params = unbox(boxed)["params"]
    if mesh is not None:
        params = jax.device_put(params, parameter_shardings(mesh, boxed)["params"])

    def loss(params: Any) -> Any:
        tokens = model.apply({"params": params}, *inputs)[0]
        return jnp.sum(jnp.sin(tokens)), tokens

    gradients, tokens = jax.jit(jax.grad(loss, has_aux=True))(params)
    return [np.asarray(tokens), *map(np.asarray, jax.tree.leaves(gradients))]


def main(path: str) -> None:
    """Writes `case/number` -> array."""
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(mesh):
        found = {name: output_and_gradients(name, mesh) for name in cases()}
    np.savez(path, **{f"{name}/{n}": array for name, arrays in found.items() for n, array in enumerate(arrays)})


if __name__ == "__main__":
    main(sys.argv[1])
