"""What an evaluation writes down: ``metrics.json`` and ``layer_use.json`` as plain JSON values. Knows no torch."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.batches.pools import HeldOut
from pipeline.evaluation.measuring import CLASSED, confusion, measures, side_use
from pipeline.evaluation.recordings import Heard
from pipeline.evaluation.trials import TrialList, find_trials, shown
from pipeline.fusion.spec import FuserSpec

if TYPE_CHECKING:
    from pipeline.evaluation.predicting import OverTime, Predicted
    from pipeline.tasks.asr.spikes import Spike

logger = logging.getLogger(__name__)

CONCATENATION = "concatenation puts layers side by side through one linear map and has no weights"
_LINEAGE = ("task", "fusion", "layers", "encoder", "model_sha256", "input_sha256", "manifest_sha256", "decoding")


def figures(
    lineage: Mapping[str, Any],
    said: Mapping[str, "Predicted"],
    held: Mapping[str, HeldOut],
    trials: TrialList | None,
    known: set[str] | None = None,
) -> dict[str, Any]:
    """Give ``metrics.json``.

    Args:
        lineage: Of the evaluation.
        said: What was predicted, by side.
        held: What was evaluated and left out, by side.
        trials: Of verification; None for none.
        known: The classes of training; None for a task without. A side with others has no metrics of its own.
    """
    sides: dict[str, Any] = {}
    for side, predicted in said.items():
        rows = predicted.rows
        left_out = {reason: count for reason, count in held[side].left_out.items() if count}
        sides[side] = {"utterances": len(rows), "left_out": left_out, "metrics": {}}
        # Who is none of the speakers of training cannot be told from them, only compared.
        if known is None or {row["reference"] for row in rows} <= known:
            sides[side]["metrics"] = measures(lineage["task"], rows)
            if lineage["task"] in CLASSED:
                sides[side]["confusion"] = confusion(rows)
    return {**{name: lineage[name] for name in _LINEAGE}, "sides": sides, "trials": _verified(trials, said)}


def _verified(trials: TrialList | None, said: Mapping[str, "Predicted"]) -> dict[str, Any] | None:
    """Judge the trials among all utterances that were evaluated."""
    if trials is None:
        return None
    from pipeline.tasks.sid.metrics import verify

    vectors = {name: vector for predicted in said.values() for name, vector in predicted.embeddings.items()}
    found = find_trials(trials, list(vectors))
    judged = verify(np.stack(list(vectors.values())), found.first, found.second, found.same)
    if found.left_out:
        logger.warning("%d trials are left out: %s were not evaluated", found.left_out, shown(found.absent))
    told = {"eer": judged.eer, "min_dcf": judged.min_dcf, "trials": judged.trials}
    return {**told, "left_out": found.left_out, "absent": shown(found.absent)}


def layer_use(
    task: str,
    fuser: FuserSpec,
    said: Mapping[str, "Predicted"],
    heard: Mapping[str, Heard],
    seconds_per_frame: float,
) -> dict[str, Any]:
    """Give ``layer_use.json``.

    Args:
        task: Which task.
        fuser: What the weights are of.
        said: What was predicted, by side.
        heard: Recordings of the utterances to show, by id, in the order in which they are shown.
        seconds_per_frame: Of the encoder.
    """
    about = {"task": task, "fusion": fuser.settings.fusion, "layers": list(fuser.columns)}
    if fuser.settings.fusion == "concat":
        return {**about, "reason": CONCATENATION, "sides": {}, "examples": []}
    rows = {row["utterance_id"]: row for predicted in said.values() for row in predicted.rows}
    over_time = {name: found for predicted in said.values() for name, found in predicted.over_time.items()}
    examples = [_example(rows[key], over_time[key], heard[key], seconds_per_frame) for key in heard]
    sides = {side: side_use(task, predicted.rows, fuser.columns) for side, predicted in said.items()}
    return {**about, "reason": None, "sides": sides, "examples": examples}


def _example(row: Mapping[str, Any], over_time: "OverTime", heard: Heard, seconds_per_frame: float) -> dict[str, Any]:
    spikes = over_time.spikes
    symbols = None if spikes is None else [_symbol(spike, seconds_per_frame) for spike in spikes]
    return {
        **{name: row[name] for name in ("utterance_id", "side", "reference", "hypothesis")},
        "seconds_per_frame": seconds_per_frame,
        "weights": over_time.weights.round(6).astype(float).tolist(),
        "symbols": symbols,
        "recording": {"seconds": heard.seconds, "reason": heard.reason},
    }


def _symbol(spike: "Spike", seconds_per_frame: float) -> dict[str, Any]:
    begins = spike.frame * seconds_per_frame
    return {"symbol": spike.symbol, "frame": spike.frame, "seconds": begins, "probability": spike.probability}
