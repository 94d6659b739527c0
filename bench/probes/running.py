"""Measures systems: encodes the recordings with each, and learns the tasks from features and tokens."""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.probes.classifier import MAX_ITERATIONS, C, accuracy
from bench.probes.measures import bag_of_tokens, information
from bench.probes.report import PARTS, Figures, task_facts
from bench.probes.systems import (
    Encoded,
    System,
    count_tokens,
    draw_encoder,
    encode,
    fit_codebook,
    given_codebooks,
    read_waveforms,
)
from bench.probes.tasks import CORPUS_OF, INFORMED, Task, heard_by_training, make_tasks, parse_sexes, recordings_of
from bench.small_corpus import Recording
from pipeline.cards.entropy import entropy
from pipeline.errors import SettingsError
from pipeline.features.encoders import mfcc
from pipeline.features.encoders.info import describe
from pipeline.kmeans.codebook import Codebook

NUM_CLUSTERS = 100
FITTED_ON = ("fsdd", "librispeech")
"""Corpora that training heard."""


class Probes:
    """Measures one encoded system after another.

    Args:
        recordings: N of them.
        tasks: What is told from them.
        num_clusters: K; None where tokens are not asked for.
        books: Codebooks that are given.
        fit_on: Corpora that others are fitted on.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        tasks: Sequence[Task],
        num_clusters: int | None,
        books: Mapping[int, Codebook],
        fit_on: Sequence[str],
    ) -> None:
        self.figures = Figures()
        self._tasks = tasks
        self._num_clusters = num_clusters
        self._books = books
        self._fitted_on = heard_by_training(recordings) & np.array([each.corpus in fit_on for each in recordings])
        self._spoken = make_tasks(INFORMED, recordings, {}) if num_clusters else []

    def measure(self, system: System, encoded: Encoded, seed: int) -> None:
        """Add the figures of the next seed of a system."""
        for layer in system.layers:
            self._tell("features", system, layer, encoded.pooled[layer], seed)
            if self._num_clusters:
                counts = count_tokens(encoded, self._codebook(encoded, layer, seed))
                self._tell("tokens", system, layer, bag_of_tokens(counts), seed)
                for task in self._spoken:
                    test = task.folds[0].test
                    used = 2.0 ** entropy(counts[test].sum(axis=0))
                    self.figures.add("perplexity", system.name, layer, task.name, used)
                    for estimate, bits in information(counts[test], task.labels[test]).items():
                        self.figures.add("information", system.name, layer, f"{task.name}_{estimate}", bits)

    def _tell(self, part: str, system: System, layer: int, numbers: np.ndarray, seed: int) -> None:
        for task in self._tasks:
            self.figures.add(part, system.name, layer, task.name, accuracy(numbers, task, seed))

    def _codebook(self, encoded: Encoded, layer: int, seed: int) -> Codebook:
        assert self._num_clusters is not None
        book = self._books.get(layer)
        if book is not None and book.encoder == encoded.encoder_sha256:
            return book
        return fit_codebook(encoded, layer, self._fitted_on, self._num_clusters, seed)


def systems(
    encoder: str, compare: Mapping[str, str], layers: Sequence[int] | None, *, with_random: bool = True
) -> list[System]:
    """List what is compared; of each the layers asked for that it has, by default all.

    Args:
        encoder: The encoder that is asked about.
        compare: Others, by their names.
        layers: Layers asked for.
        with_random: Whether encoders of its shape with random weights are among them.

    Raises:
        SettingsError: A name is taken, or a system has none of the layers.
    """
    if taken := compare.keys() & {mfcc.NAME, "random", "encoder"}:
        raise SettingsError(f"--compare: the names {sorted(taken)} are taken; choose others")
    found = [System(name=mfcc.NAME, encoder=mfcc.NAME, layers=(0,))]
    for name, folder in {**({"random": encoder} if with_random else {}), "encoder": encoder, **compare}.items():
        most = describe(folder).num_layers
        own = tuple(sorted(set(range(most + 1)) & set(range(most + 1) if layers is None else layers)))
        if not own:
            raise SettingsError(f"encoder {folder} has layers 0 to {most}, so none of {list(layers or ())}")
        found.append(System(name=name, encoder=folder, layers=own, redrawn=name == "random"))
    return found


def check_codebooks_are_used(books: Mapping[int, Codebook], compared: Sequence[System]) -> None:
    """Refuse codebooks of an encoder that is not compared.

    Raises:
        SettingsError: They are.
    """
    wanted = {book.encoder for book in books.values()}
    if books and not wanted & {describe(each.encoder).weights_sha256 for each in compared if not each.redrawn}:
        raise SettingsError(f"--codebooks were fitted on encoder {sorted(wanted)}, which is none of those compared")


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all systems.

    Args:
        given: The flags.

    Returns:
        All figures, as they are printed as JSON.

    Raises:
        PipelineError: A setting, an encoder, a codebook or a corpus does not fit.
    """
    began, used = time.perf_counter(), time.process_time()
    compared = systems(given.encoder, dict(given.compare), given.layers, with_random=given.random)
    books = given_codebooks(given.codebooks, given.num_clusters) if given.codebooks else {}
    check_codebooks_are_used(books, compared)
    sizes = {book.num_clusters for book in books.values()} or {given.num_clusters or NUM_CLUSTERS}
    num_clusters = sizes.pop()
    corpora = {CORPUS_OF[name] for name in given.tasks}
    if given.tokens:
        corpora |= {CORPUS_OF[name] for name in INFORMED} | set(given.fit_on)
    recordings = recordings_of(corpora, given.data)
    listed = given.data / "LibriSpeech" / "SPEAKERS.TXT"
    tasks = make_tasks(given.tasks, recordings, parse_sexes(listed.read_text()) if "sex" in given.tasks else {})
    waveforms = read_waveforms(recordings)
    probes = Probes(recordings, tasks, num_clusters if given.tokens else None, books, given.fit_on)
    for system in compared:
        probe_system(system, given.seeds, waveforms, probes, keep_frames=given.tokens)
    settings = {"encoder": given.encoder, "compare": dict(given.compare), "seeds": given.seeds, "tokens": given.tokens}
    settings |= {"num_clusters": num_clusters, "codebooks": given.codebooks, "layers_of_codebooks": sorted(books)}
    settings["fit_on"] = given.fit_on
    settings |= {"c": C, "max_iterations": MAX_ITERATIONS, "recordings": len(recordings)}
    return {
        "settings": settings,
        "tasks": task_facts(tasks),
        **{part: probes.figures.rows(part) for part in PARTS},
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - used,
    }


def probe_system(
    system: System, seeds: int, waveforms: Sequence[np.ndarray], probes: Probes, *, keep_frames: bool
) -> None:
    """Encode one system, for each seed anew where its weights are redrawn, and measure it."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        encoded: Encoded | None = None
        for seed in range(seeds):
            began = time.perf_counter()
            if encoded is None or system.redrawn:
                folder = system.encoder
                if system.redrawn:
                    folder = str(scratch / f"seed-{seed}")
                    draw_encoder(system.encoder, seed, Path(folder))
                # Written over for each seed: the frames of one before are not needed any more.
                encoded = encode(folder, system.layers, waveforms, scratch if keep_frames else None)
            encoding = time.perf_counter() - began
            probes.measure(system, encoded, seed)
            _say(f"{system.name}, seed {seed}: encoded in {encoding:.1f} s, {time.perf_counter() - began:.1f} s in all")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
