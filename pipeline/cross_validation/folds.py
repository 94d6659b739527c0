"""Which values each fold leaves out: one, or a group of as many as the others, drawn by hash."""

from collections import Counter
from collections.abc import Mapping, Sequence

from pipeline.audio.loading import Manifest
from pipeline.audio.manifest import encode_id
from pipeline.batches.sides import share
from pipeline.cross_validation.settings import FoldSettings
from pipeline.errors import SettingsError


def values_of(manifest: Manifest, column: str, label: str) -> tuple[str, ...]:
    """Collect the values of a column, sorted, over the utterances that have a label.

    Args:
        manifest: The manifest; two columns of it are read once.
        column: What is left out in turn.
        label: Column that the task predicts.

    Raises:
        SettingsError: There are fewer than two values, or utterances without one, which no fold would test on.
    """
    found: Counter[str] = Counter()
    lacking: list[str] = []
    for _, rows in manifest.scan(list(dict.fromkeys(["utterance_id", column, label]))):
        for row in rows.to_pylist():
            if row[label] is None:
                continue
            if row[column] is None:
                lacking.append(row["utterance_id"])
            else:
                found[row[column]] += 1
    there = f"{manifest.dataset.uri} has"
    if not found:
        raise SettingsError(
            f"{there} no {column} for any utterance with {label}; folds by {column} need at least two values, so use a "
            "corpus with this label"
        )
    if lacking:
        raise SettingsError(
            f"{there} no {column} for {len(lacking):,} utterances with {label} (first {lacking[0]}), which every fold "
            "would learn from and none would test; make a manifest without them"
        )
    if len(found) < 2:
        raise SettingsError(f"{there} one {column} ({next(iter(found))}); folds by {column} need at least two values")
    return tuple(sorted(found))


def folds_of(values: Sequence[str], settings: FoldSettings, seed: int) -> Mapping[str, tuple[str, ...]]:
    """Give the values that each fold leaves out, by a name that a folder may have.

    Args:
        values: All values, sorted.
        settings: How they are grouped.
        seed: Of the groups.

    Raises:
        SettingsError: There are more folds than values.
    """
    if settings.num_folds is None:
        return {encode_id(value): (value,) for value in values}
    if settings.num_folds > len(values):
        raise SettingsError(
            f"num_folds {settings.num_folds} is more than the {len(values)} values of {settings.folds_by}; leave it "
            "away for a fold per value"
        )
    drawn = sorted(values, key=lambda value: (share(seed, f"fold {value}"), value))
    digits = len(str(settings.num_folds - 1))
    return {
        f"group_{number:0{digits}d}": tuple(sorted(drawn[number :: settings.num_folds]))
        for number in range(settings.num_folds)
    }
