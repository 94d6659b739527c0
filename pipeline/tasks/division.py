"""Which utterances a task learns from, which choose the best weights, and which it is tested on.

A corpus says it in its ``split`` column; where it does not, utterances or whole speakers are drawn by hash, or speakers
are named. A task that must not hear the speakers of its tests is refused a division in which it would.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.audio.fields import SPELT_MISSING
from pipeline.audio.labels import SPLIT
from pipeline.audio.loading import Manifest
from pipeline.batches.sides import TRAIN, VALIDATION, ByColumn, ByHash, Sides, Whole, Within
from pipeline.batches.survey import ByValues, Parts, SideFacts, Wanted, survey
from pipeline.errors import SettingsError
from pipeline.settings import Settings

TEST = "test"
UNSEEN = "unseen"
ALL = "all"
"""The one side of a corpus of its own, on which nothing is trained."""
SPEAKER = "speaker"


@dataclass(frozen=True, kw_only=True)
class DivisionSettings(Settings):
    """How the utterances of a manifest are divided."""

    train_splits: tuple[str, ...] = ("train",)
    """Values of the split column that are trained on, where the corpus has one."""
    valid_splits: tuple[str, ...] = ("valid", "validation", "dev")
    """Values of the split column that choose the best weights; where the corpus has none of them, valid_fraction."""
    test_splits: tuple[str, ...] = ("test",)
    """Values of the split column that are tested on; where the corpus has none of them, test_fraction."""
    valid_fraction: float = 0.1
    """Share of the training utterances that chooses the best weights, drawn by hash."""
    test_fraction: float = 0.1
    """Share of the utterances that is tested on, drawn by hash."""
    divide_by: Literal["utterance", "speaker"] = "utterance"
    """What is drawn by hash: utterance, or speaker, each with all of its utterances."""
    test_speakers: tuple[str, ...] = ()
    """Speakers that are tested on, all of their utterances; the split column is then not looked at."""
    unseen_speakers: tuple[str, ...] = ()
    """Speakers left out of everything else, who are a test set of their own, called unseen."""

    def __post_init__(self) -> None:
        for name in ("valid_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.divide_by not in ("utterance", SPEAKER):
            raise SettingsError(f"divide_by must be utterance or speaker, got {self.divide_by!r}")
        named = Counter(value for _, values in _splits(self) for value in set(values))
        if twice := sorted(value for value, count in named.items() if count > 1):
            raise SettingsError(
                f"{', '.join(twice)} is in two of train_splits, valid_splits and test_splits; name each once"
            )
        if both := sorted(set(self.test_speakers) & set(self.unseen_speakers)):
            raise SettingsError(f"{', '.join(both)} cannot be in test_speakers and in unseen_speakers")


def _splits(settings: DivisionSettings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Give the values of the split column that are named for each side."""
    return (TRAIN, settings.train_splits), (VALIDATION, settings.valid_splits), (TEST, settings.test_splits)


@dataclass(frozen=True, kw_only=True)
class Division:
    """The sides of a manifest.

    Attributes:
        sides: Side of each utterance.
        facts: What each side holds.
    """

    sides: Sides
    facts: Mapping[str | None, SideFacts]

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the sides that are tested on."""
        return tuple(side for side in self.sides.held_out if side != VALIDATION)


def divide(
    manifest: Manifest,
    settings: DivisionSettings,
    *,
    seed: int,
    label: str,
    parts: Sequence[Parts] | None,
    unheard: bool,
) -> Division:
    """Divide a manifest, and refuse a division that the task cannot be judged by.

    Args:
        manifest: The manifest; its labels are read once.
        settings: How it is divided.
        seed: Chooses what is drawn by hash.
        label: Label column without which an utterance is of no use.
        parts: What is counted of labels; None counts the values of that column.
        unheard: Whether speakers of the tests must not be heard in training.

    Raises:
        SettingsError: A side is empty or without labels, a label is misspelt, a speaker who is named is not there, or
            a speaker is on two sides of a task that forbids it.
    """
    by_speaker = unheard or settings.test_speakers or settings.unseen_speakers
    classes = dict.fromkeys([*([label] if parts is None else []), *([SPEAKER] if by_speaker else [])])
    wanted = Wanted(needed=(label,), classes=tuple(classes), parts=parts or ())
    sides, facts = survey(manifest, _options(settings, seed), wanted)
    found = Division(sides=sides, facts=facts)
    for column in classes:
        _refuse_misspelt(manifest, found, column)
    _refuse_unknown(manifest, found, {TEST: settings.test_speakers, UNSEEN: settings.unseen_speakers})
    if unheard:
        _refuse_heard(manifest, found)
    return found


def undivided(manifest: Manifest, *, needed: tuple[str, ...], classes: tuple[str, ...]) -> Division:
    """Put every utterance of a manifest on one side, as of a corpus that a task is only tested on; see ``divide``.

    Raises:
        SettingsError: It has no utterance, or none with a label that is needed.
    """
    sides, facts = survey(manifest, Whole(side_name=ALL), Wanted(needed=needed, classes=classes))
    return Division(sides=sides, facts=facts)


def _options(settings: DivisionSettings, seed: int) -> ByValues:
    """Give the divisions that the settings leave open: which holds, the values of the split column say."""
    groups = {} if settings.test_speakers else {side: values for side, values in _splits(settings) if values}

    def divide(there: frozenset[str]) -> Sides:
        return _sides({side: values for side, values in groups.items() if side in there}, settings, seed)

    return ByValues(column=SPLIT, groups=groups, divide=divide)


def _sides(named: Mapping[str, tuple[str, ...]], settings: DivisionSettings, seed: int) -> Sides:
    """Give a division, from the sides that have values in the split column."""
    column = SPEAKER if settings.divide_by == SPEAKER else None
    valid = {VALIDATION: settings.valid_fraction} if settings.valid_fraction else {}
    found: Sides
    if settings.test_speakers:
        rest = ByHash(seed=seed, shares=valid, column=column)
        found = ByColumn(column=SPEAKER, values={TEST: settings.test_speakers}, rest=rest)
    elif TRAIN not in named:
        test = {TEST: settings.test_fraction} if settings.test_fraction else {}
        found = ByHash(seed=seed, shares={**valid, **test}, column=column)
    else:
        found = _by_split(named, valid, settings, seed, column)
    if settings.unseen_speakers:
        found = ByColumn(column=SPEAKER, values={UNSEEN: settings.unseen_speakers}, rest=found)
    return found


def _by_split(
    named: Mapping[str, tuple[str, ...]],
    valid: Mapping[str, float],
    settings: DivisionSettings,
    seed: int,
    column: str | None,
) -> Sides:
    """Divide by the split column, and draw by hash from its training utterances what it does not name."""
    shares = dict(valid) if VALIDATION not in named else {}
    if TEST not in named and settings.test_fraction:
        shares[TEST] = settings.test_fraction
    if not shares:
        return ByColumn(column=SPLIT, values=named)
    drawn = Within(column=SPLIT, values=named[TRAIN], rest=ByHash(seed=seed, shares=shares, column=column))
    held = {side: values for side, values in named.items() if side != TRAIN}
    return ByColumn(column=SPLIT, values=held, rest=drawn) if held else drawn


def _refuse_misspelt(manifest: Manifest, division: Division, column: str) -> None:
    """Refuse labels that look like others or like none: each would be a class, or a speaker, of its own."""
    counts: Counter[str] = Counter()
    for facts in division.facts.values():
        counts.update(dict(zip(facts.values[column].values, facts.values[column].counts, strict=True)))
    odd = [value for value in sorted(counts) if value != value.strip() or value in ("", *SPELT_MISSING)]
    if odd:
        told = ", ".join(f"{value!a:.80}" for value in odd[:5]) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
        raise SettingsError(
            f"{manifest.dataset.uri} has {column} {told} (utterances: {sum(counts[value] for value in odd)}), blanks "
            "around a label or a word for a missing one, which would count as a value of its own; mend the corpus and "
            "build the manifest again"
        )


def _refuse_unknown(manifest: Manifest, division: Division, named: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse names of speakers who are not there: the test would be of the others alone, in silence."""
    for side, speakers in named.items():
        there = division.facts[side].values[SPEAKER].values if speakers else ()
        if unknown := sorted(set(speakers) - set(there)):
            told = ", ".join(f"{speaker!a:.80}" for speaker in unknown)
            raise SettingsError(f"--{side}-speakers: {manifest.dataset.uri} has no utterance of {told}")


def _refuse_heard(manifest: Manifest, division: Division) -> None:
    heard = set(division.facts[TRAIN].values[SPEAKER].values)
    for side in division.tests:
        if both := sorted(heard & set(division.facts[side].values[SPEAKER].values)):
            told = ", ".join(both[:5]) + (f" and {len(both) - 5} more" if len(both) > 5 else "")
            raise SettingsError(
                f"{manifest.dataset.uri}: speakers of {side} would be heard in training ({told}), and this task is "
                "judged by speakers it never heard; give --test-speakers, or --divide-by speaker"
            )
