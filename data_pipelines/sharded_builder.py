"""A tfds builder whose shards worker processes write: in parallel, resumable, checksummed, published when complete."""

from collections.abc import Callable, Mapping
import dataclasses
import os
import pathlib
import types
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder, naming

from data_pipelines.shards import CONFIG_FILE, Shard, Staging, check_same_config, plan_shards, writing_to
from data_pipelines.workers import Progress, run_tasks


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """What a dataset is made from, and how its shards are written.

    Attributes:
      made_from: JSON; a dataset made from something else in the same place is an error.
      ignored: names in `made_from` in which a dataset that is there may differ.
      splits: records of each split.
      per_shard: records of a shard, at most.
      unit: what records are called where progress is shown.
      worker: the module whose processes write shards (`workers.serve_shards`).
      setup: JSON that each worker gets.
      expected_bytes: of a shard, before it is written.
      details: JSON that a worker gets with a shard.
      check_splits: raises ValueError for the first of these splits that cannot be written, before a worker starts.
      is_current: whether a finished shard, of which `write_shard` noted this, need not be written again.
    """

    made_from: Mapping[str, Any]
    splits: Mapping[str, int]
    per_shard: int
    unit: str
    worker: str
    setup: Mapping[str, Any]
    expected_bytes: Callable[[Shard], int]
    ignored: tuple[str, ...] = ()
    details: Callable[[Shard], Mapping[str, Any]] = lambda shard: {}
    check_splits: Callable[[set[str]], None] = lambda splits: None
    is_current: Callable[[Shard, Mapping[str, Any]], bool] = lambda shard, noted: True


class ShardedBuilder(dataset_builder.FileReaderBuilder):
    """`download_and_prepare` writes `DATA_DIR/NAME/VERSION` once; run again after an interruption it writes the missing
    shards only. The result does not depend on the number of workers, and is an ordinary tfds dataset:
    `tfds.builder_from_directory(directory).as_data_source("train")` reads it too.

    A subclass says in `_info` what a record holds.
    """

    VERSION = tfds.core.Version("1.0.0")  # each builder has its own
    code_path = None  # nothing is downloaded, so tfds need not look for lists of addresses beside the code

    def __init__(self, *, plan: ShardPlan, version: str, data_dir: str | os.PathLike, workers: int | None = None):
        """`workers` processes, by default one a core.

        Raises ValueError if `data_dir` holds this version of the dataset made from something else.
        """
        if workers is not None and workers < 1:
            raise ValueError(f"workers = {workers!r}: accepted is a number greater than 0, or None for one a core")
        self.plan = plan
        self.workers = workers or os.cpu_count() or 1
        self.VERSION = tfds.core.Version(version)
        super().__init__(data_dir=os.fspath(data_dir), file_format=tfds.core.FileFormat.ARRAY_RECORD)
        self.directory = pathlib.Path(self.data_path)
        if self.directory.exists():
            check_same_config(self.directory, plan.made_from, ignored=plan.ignored)

    def download_and_prepare(self, **kwargs) -> None:
        """Builds the dataset unless it is there. Raises ValueError for a place it cannot be written to."""
        if self.directory.exists():
            return
        staging = Staging(self.directory, self.plan.made_from)
        with staging.locked():
            self._write_missing(staging)
            with writing_to(self.directory):
                super().download_and_prepare(**kwargs)

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        # Called by tfds with `data_path` set to a temporary directory that it renames afterwards.
        staging, shards = Staging(self.directory, self.plan.made_from), self._shards()
        sizes = {shard: staging.noted(shard)["bytes"] for shard in shards}
        staging.publish(shards, pathlib.Path(self.data_path))
        template = naming.ShardedFileTemplate(
            dataset_name=self.name, data_dir=self.data_path, filetype_suffix="array_record"
        )
        infos = []
        for split in self.plan.splits:
            own = [shard for shard in shards if shard.split == split]
            size = sum(sizes[shard] for shard in own)
            infos.append(tfds.core.SplitInfo(split, [len(shard) for shard in own], size, template))
        self.info.set_splits(tfds.core.SplitDict(infos))

    def _make_download_manager(self, **_) -> types.SimpleNamespace:
        return types.SimpleNamespace(downloaded_size=0)  # tfds's own would make directories for downloads

    def _log_download_bytes(self) -> None:
        """Says nothing: nothing is downloaded."""

    def _log_download_done(self) -> None:
        """Says nothing: nothing is downloaded."""

    def _shards(self) -> list[Shard]:
        return plan_shards(self.name, self.plan.splits, self.plan.per_shard)

    def _write_missing(self, staging: Staging) -> None:
        plan, shards = self.plan, self._shards()
        missing = staging.missing(shards)
        finished = [shard for shard in shards if shard not in missing]
        missing += [shard for shard in finished if not plan.is_current(shard, staging.noted(shard))]
        if not missing:
            return
        plan.check_splits({shard.split for shard in missing})
        # Longest first, so that no worker is left alone with a long one.
        sizes = {shard: plan.expected_bytes(shard) for shard in missing}
        missing.sort(key=lambda shard: -sizes[shard])
        staging.check_space(sum(sizes.values()))
        progress = Progress(self.name, sum(map(len, missing)), plan.unit, work=sum(sizes.values()))
        setup = {**plan.setup, "staging": str(staging.path)}
        tasks = [{"shard": dataclasses.asdict(shard), **plan.details(shard)} for shard in missing]

        def on_done(index: int) -> None:
            progress.advance(len(missing[index]), sizes[missing[index]])

        run_tasks(plan.worker, setup, tasks, self.workers, on_done)


def find_version(data_dir: str | os.PathLike, name: str) -> pathlib.Path | None:
    """The directory of the newest version of dataset `name` in `data_dir`, or `data_dir` if it is one itself."""
    directory = pathlib.Path(data_dir)
    if (directory / CONFIG_FILE).is_file():
        return directory
    found = [path.parent for path in directory.glob(f"{name}/*/{CONFIG_FILE}")]
    versions = [path for path in found if tfds.core.Version.is_valid(path.name)]
    return max(versions, key=lambda path: tfds.core.Version(path.name), default=None)
