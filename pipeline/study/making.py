"""Makes what trials share, part by part, and tells what each took."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.concatenation.stage import concatenate_corpus
from pipeline.audio.mixtures.settings import MixCorpusConfig
from pipeline.audio.mixtures.stage import mix_corpus
from pipeline.audio.stage import BuildManifestConfig, build_manifest, prepare
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.settings import Settings
from pipeline.store.completion import Status, status
from pipeline.store.dataset import SUCCESS, Dataset
from pipeline.store.provenance import record_report
from pipeline.store.storage import Store, open_store
from pipeline.study.facts import Cost
from pipeline.study.planning.parts import Part
from pipeline.study.random_encoder import MADE, RandomEncoderConfig, make_random_encoder
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

logger = logging.getLogger(__name__)

TOLD = "parts/_seconds.json"
"""Seconds that each part took, by key."""

_STAGES: Mapping[type[Settings], Callable[[Any], Any]] = {
    BuildManifestConfig: build_manifest,
    ConcatenateCorpusConfig: concatenate_corpus,
    MixCorpusConfig: mix_corpus,
    RandomEncoderConfig: make_random_encoder,
    ExtractFeaturesConfig: extract_features,
    FitKmeansConfig: fit_kmeans,
    TokenizeCorpusConfig: tokenize_corpus,
}
_NAMES = {
    "manifests": "manifests",
    "encoders": "encoders of random weights",
    "features": "encoder passes",
    "codebooks": "codebooks",
    "tokens": "tokens of a corpus",
}


def make_parts(parts: Sequence[Part], store: Store) -> None:
    """Make every part that is not there, in order.

    Args:
        parts: Each after what it is made from.
        store: Of the study.

    Raises:
        PipelineError: What a stage raises; the parts before it stay made.
        PlanMismatchError: A corpus is not what it was when its manifest was made.
    """
    seconds = _seconds(store)
    lacking = [part for part in parts if not is_there(part)]
    for part in parts:
        if isinstance(part.config, BuildManifestConfig) and part not in lacking:
            # Keys hold no recordings: a corpus that is another one now is found here.
            prepare(part.config)
    for number, part in enumerate(lacking, 1):
        began = time.monotonic()
        logger.info("part %d of %d: %s, %s", number, len(lacking), part.kind, part.name)
        report = _STAGES[type(part.config)](part.config)
        if report is not None:
            record_report(open_store(report.output), report.to_json())
        seconds[part.key] = seconds.get(part.key, 0.0) + time.monotonic() - began
        store.write(TOLD, json.dumps(seconds, indent=1).encode())


def is_there(part: Part) -> bool:
    """Say whether a part is made."""
    # A mixture's manifest is the last that is written of it.
    return open_store(part.uri).exists(MADE if isinstance(part.config, RandomEncoderConfig) else SUCCESS)


def _seconds(store: Store) -> dict[str, float]:
    try:
        found: dict[str, float] = json.loads(store.read(TOLD))
        return found
    except FileNotFoundError:
        return {}


def states_of(parts: Sequence[Part]) -> list[tuple[Part, Status | None]]:
    """Give the state of each part, from its commits; encoders are no datasets and have none.

    Args:
        parts: Those of a study that are there.
    """
    return [(part, None if part.kind == "encoders" else status(Dataset.open(part.uri))) for part in parts]


def part_costs(states: Sequence[tuple[Part, Status | None]], store: Store) -> list[Cost]:
    """Say what the parts took, kind by kind.

    Args:
        states: Parts of a study, and the state of each.
        store: Of the study.
    """
    seconds = _seconds(store)
    found = []
    for kind, name in _NAMES.items():
        mine = [(part, state) for part, state in states if part.kind == kind]
        held = [state for _, state in mine if state is not None]
        if mine:
            found.append(
                Cost(
                    what=name,
                    count=len(mine),
                    seconds=sum(seconds.get(part.key, 0.0) for part, _ in mine),
                    audio_hours=sum(state.seconds for state in held) / 3600 if kind != "codebooks" else 0.0,
                    bytes=sum(state.num_bytes for state in held),
                )
            )
    return found
