"""Judge a vocoder: every set of layers, beside the original, Griffin-Lim and another utterance.

Reads: a vocoder's folder, a tokens dataset, its manifest and recordings. Writes: ``utterances.parquet``, a row per
utterance and condition; ``metrics.json``; ``index.html`` to listen; ``samples/``, FLAC; all in one commit. Beside it
``_versa/``, lists for the VERSA toolkit. Restart: a run that was killed speaks all again, judges what is left
(``kept.py``) and gives the same figures. It is one process, without Ray. Memory: the vocoder, the judges, one utterance
in all conditions, and a row of each.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline import schema
from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.batches.sides import VALIDATION, Sides, Whole
from pipeline.cards.facts import card_bytes
from pipeline.errors import SettingsError
from pipeline.evaluation.comparison import METRICS
from pipeline.evaluation.once import made_once
from pipeline.evaluation.settings import EvaluateConfig
from pipeline.evaluation.speech.report import SpeechReport, report_of
from pipeline.evaluation.speech.sets import layer_sets
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, Output, Plan, check_folder, parquet_bytes
from pipeline.store.storage import open_store
from pipeline.vocoder.saved import SavedVocoder, check_weights, read_spec
from pipeline.vocoder.speaker_vectors import SpeakerVectors, check_encoder, known_speakers
from pipeline.vocoder.training.sides import TEST, recorded_sides

if TYPE_CHECKING:
    from pipeline.evaluation.speech.conditions import Speaking
    from pipeline.metrics.speech.judge import Judge
    from pipeline.vocoder.network import Vocoder

logger = logging.getLogger(__name__)

DATA_VERSION = 2
KIND = "speech_evaluation"
UNIT = "utterances"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class PreparedSpeechEvaluation:
    """What is known before anything is computed.

    Attributes:
        saved: The vocoder.
        plan: Of the evaluation.
        sides: How the manifest is divided.
        side: What is judged.
        there: Layers that vocoder and tokens share.
        sets: Of them, by name.
        judges: They.
    """

    saved: SavedVocoder
    plan: Plan
    sides: Sides
    side: str
    there: tuple[str, ...]
    sets: Mapping[str, tuple[str, ...]]
    judges: "list[Judge]"


def prepare(config: EvaluateConfig) -> PreparedSpeechEvaluation:
    """Open everything and refuse what does not belong together.

    Raises:
        CodebookMismatchError: The vocoder was trained on other tokens.
        DatasetError: An input is not finished, or the tokens are of another manifest.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: A side, layer, speaker or judge is not there.
    """
    from pipeline.metrics.speech.judge import SAMPLE_RATE
    from pipeline.metrics.speech.judging import libraries
    from pipeline.metrics.speech.registry import make_judges

    assert config.vocoder is not None
    assert config.manifest is not None
    assert config.tokens is not None
    saved = read_spec(config.vocoder)
    tokens, manifest = Dataset.open(config.tokens, kind="tokens"), Manifest(config.manifest)
    manifest_sha256 = manifest.check_made(tokens)
    if saved.spec.sample_rate != SAMPLE_RATE:
        raise SettingsError(f"judges hear {SAMPLE_RATE} Hz, and {config.vocoder} speaks at {saved.spec.sample_rate} Hz")
    there = saved.spec.check_tokens(tokens.plan.lineage)
    sets = layer_sets(saved.spec, there, config.speech.layer_sets)
    vectors = _check_speaker(config, saved)
    sides, side = _side(config, saved, manifest, manifest_sha256)
    judges = make_judges(config.speech.judges, utmos=config.speech.utmos)
    content = {
        "data_version": DATA_VERSION,
        "vocoder_sha256": saved.sha256,
        "input_sha256": success(tokens)["dataset_sha256"],
        "manifest_sha256": manifest_sha256,
        "side": side,
        "sets": {name: list(columns) for name, columns in sets.items()},
        "judges": libraries(judges),
        "num_utterances": config.speech.num_utterances,
        "examples": config.examples,
        "speaker": config.speech.speaker,
        **vectors,
    }
    lineage = {"kind": KIND, "schema_version": schema.SCHEMA_VERSION, **content}
    plan = Plan(kind=KIND, content=content, lineage=lineage, units=[UNIT])
    check_folder(open_store(config.output), plan)
    check_weights(config.vocoder)
    return PreparedSpeechEvaluation(
        saved=saved, plan=plan, sides=sides, side=side, there=there, sets=sets, judges=judges
    )


def _check_speaker(config: EvaluateConfig, saved: SavedVocoder) -> dict[str, Any]:
    """Refuse a speaker whom the vocoder does not know; give what the content key has of speaker vectors."""
    speaker, spec = config.speech.speaker, saved.spec
    takes_vectors = spec.settings.speaker_input == "vector"
    if speaker is not None and speaker not in spec.speakers:
        known = ", ".join(spec.speakers[:5])
        nobody = "nobody by name; leave it away" if takes_vectors else "no other: it has one voice"
        raise SettingsError(f"--speaker {speaker} is none of the vocoder's; it knows {known or nobody}")
    if not takes_vectors:
        return {}
    if speaker is not None:
        return {"voices_sha256": saved.voices_sha256}
    return {"speaker_encoder": asdict(check_encoder(spec.speaker_encoder))}


def _side(config: EvaluateConfig, saved: SavedVocoder, manifest: Manifest, manifest_sha256: str) -> tuple[Sides, str]:
    """Say which utterances are judged: those that training held out, or all of another corpus."""
    own = saved.training.get("manifest_sha256") != manifest_sha256
    if len(config.sides) > 1:
        raise SettingsError(f"a vocoder is judged on one side, got --sides {' '.join(config.sides)}")
    side = config.sides[0] if config.sides else (ALL if own else TEST)
    if side == ALL:
        if not own:
            raise SettingsError(
                f"--sides {ALL} is for a manifest of its own; the vocoder was trained on {manifest.dataset.uri}: leave "
                "--sides out to take what was held out"
            )
        return Whole(side_name=ALL), ALL
    if own:
        raise SettingsError(
            f"the vocoder was trained on another manifest than {manifest.dataset.uri}, of which all utterances are "
            f"judged; leave --sides {side} out"
        )
    sides = recorded_sides(saved.training)
    if side not in sides.held_out or side not in (TEST, VALIDATION):
        raise SettingsError(
            f"the training held out {', '.join(sides.held_out) or 'nothing'}; there is no side {side} to judge"
        )
    return sides, side


def evaluate_vocoder(config: EvaluateConfig) -> SpeechReport:
    """Judge a vocoder on utterances that it never heard.

    Raises:
        CodebookMismatchError: The vocoder was trained on other tokens.
        DatasetError: An input is not finished, or the tokens are of another manifest.
        PlanMismatchError: The output folder was made with other settings.
        SettingsError: A side, layer, speaker or judge is not there.
    """
    began = time.monotonic()
    prepared = prepare(config)
    dataset = made_once(config, config.output, prepared.plan, lambda dataset: _make(dataset, prepared, config))
    return report_of(dataset, time.monotonic() - began)


def _make(dataset: Dataset, prepared: PreparedSpeechEvaluation, config: EvaluateConfig) -> None:
    """Compute everything and commit it at once."""
    import torch

    from pipeline.cards.plots import can_plot
    from pipeline.evaluation.speech.facts import figures, layer_use
    from pipeline.evaluation.speech.judging import judge_all
    from pipeline.evaluation.speech.kept import KeptRows
    from pipeline.evaluation.speech.page import page
    from pipeline.evaluation.speech.utterances import judged_set
    from pipeline.features.numerics import numerics_key
    from pipeline.metrics.speech.rows import row_schema
    from pipeline.vocoder.saved import load_vocoder

    began = time.monotonic()
    assert config.vocoder is not None
    device = "cuda" if (torch.cuda.is_available() if config.use_gpu is None else config.use_gpu) else "cpu"
    vocoder = load_vocoder(config.vocoder, device=device)
    spec = prepared.saved.spec
    clock = Clock(sample_rate=spec.sample_rate, hop_length=spec.hop_length, receptive_field=spec.hop_length)
    judged = judged_set(
        manifest=str(config.manifest),
        tokens=str(config.tokens),
        columns=prepared.there,
        clock=clock,
        sides=prepared.sides,
        side=prepared.side,
        count=config.speech.num_utterances,
        seed=0,
    )
    speaking = _speaking(config, prepared, vocoder)
    kept = KeptRows(dataset, prepared.judges, device)
    found = judge_all(speaking, judged, kept, examples=config.examples)
    about = {
        "vocoder": Path(config.vocoder).name,
        "arch": spec.settings.arch,
        "parameters": sum(weight.numel() for weight in vocoder.parameters()),
        "side": prepared.side,
        "utterances": len(judged.pieces),
        "left_out": judged.left_out,
        "sets": {name: list(columns) for name, columns in prepared.sets.items()},
        **{f"{name}_sha256": prepared.plan.content[f"{name}_sha256"] for name in ("vocoder", "input", "manifest")},
        "layer_use": layer_use(found.weights, spec.columns),
    }
    numbers = figures(found.rows, prepared.judges, list(prepared.sets), about)
    beside = {METRICS: card_bytes(numbers), "index.html": page(numbers, found.examples, found.pictures)}
    beside |= {picture.name: picture.data for picture in found.pictures}
    beside |= found.samples
    table = pa.Table.from_pylist(found.rows, schema=row_schema(prepared.judges))
    output = Output(
        data=parquet_bytes(table, prepared.plan.lineage),
        rows=len(judged.pieces),
        num_frames=sum(piece.num_frames for piece in judged.pieces),
        seconds=time.monotonic() - began,
        notes={"plots": can_plot()},
        beside=beside,
    )
    # Before the commit: a run killed between the two would never write them.
    _write_versa(dataset, found.examples, prepared)
    dataset.commit(UNIT, dataset.announce(UNIT), output, numerics_key(device))


def _speaking(config: EvaluateConfig, prepared: PreparedSpeechEvaluation, vocoder: "Vocoder") -> "Speaking":
    from pipeline.evaluation.speech.conditions import Speaking

    spec, speaker = prepared.saved.spec, config.speech.speaker
    own = spec.settings.speaker_input == "vector" and speaker is None
    return Speaking(
        vocoder,
        prepared.sets,
        prepared.there,
        known=known_speakers(str(config.vocoder), spec),
        speaker=speaker,
        vectors=SpeakerVectors(spec.speaker_encoder) if own else None,
    )


def _write_versa(dataset: Dataset, examples: "list[dict[str, Any]]", prepared: PreparedSpeechEvaluation) -> None:
    """Write lists of the samples for the VERSA toolkit, which reads local files alone."""
    from pipeline.evaluation.speech.judging import sample_name
    from pipeline.metrics.speech.versa import Sample, versa_files

    if "://" in dataset.uri or not examples:
        return
    root = Path(dataset.uri)
    for condition in prepared.sets:
        samples = [
            Sample(
                utterance_id=f"utterance_{number}",
                generated=root / sample_name(number, condition),
                reference=root / sample_name(number, "original"),
                text=example["text"],
            )
            for number, example in enumerate(examples)
        ]
        command = versa_files(root / "_versa" / condition, samples)
        logger.info("VERSA scores the samples of %s with: %s", condition, command)
