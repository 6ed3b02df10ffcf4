"""What every stage of the Thinker shares: training on some source of conversations, and the model that comes of it."""

from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import Any

from experiments.thinker.data import ConversationSource, ThinkerData
from qomni_jax.config.training import ThinkerTrainingConfig
from qomni_jax.sequence.special_tokens import PADDING
from qomni_jax.thinker.storage import StoredThinker, Tokenizer, save_thinker
from qomni_jax.training.checkpoint import Checkpoints
from qomni_jax.training.loop import train
from qomni_jax.training.thinker_step import init_thinker_state, make_thinker_step

Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Start:
    """What a stage begins with: the model as it is stored, its tokenizer, and parameters (None: fresh ones)."""

    stored: StoredThinker
    tokenizer: Tokenizer
    params: Any = None


def run_stage(
    config: Any,
    training: ThinkerTrainingConfig,
    workdir: Path,
    report: Report,
    prepare: Callable[[], tuple[Start, ConversationSource]],
) -> Path:
    """Trains, or goes on training, and returns the directory of the model. `config` is the whole stage's, which the
    workdir is bound to; `prepare` makes what is needed, unless the model is there.

    Raises ValueError and OSError with one line that says what is wrong.
    """
    model = workdir / "model"
    checkpoints = Checkpoints(workdir, dataclasses.asdict(config))
    if model.exists():
        report(f"{model} is there already")
        return model
    start, source = prepare()
    thinker = start.stored.config
    data = ThinkerData(source, thinker, training, start.tokenizer.special(PADDING))
    state = train(
        init_thinker_state(thinker, training, start.params),
        make_thinker_step(thinker, training),
        data.loader,
        steps=training.steps,
        checkpoints=checkpoints,
        log_every=training.log_every,
        checkpoint_every=training.checkpoint_every,
        name="thinker",
        report=report,
    )
    checkpoints.close()
    save_thinker(model, start.stored, state.params["thinker"], start.tokenizer)
    return model
