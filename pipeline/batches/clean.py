"""Clean partners: for each noisy utterance, the piece of the clean recording that its ``clean_uri`` names.

Reads: the manifest of the clean recordings, and the tokens (or features) made from it. Both recordings have the same
frames, so the tokens of one are frame by frame the targets of the other. ``check_clean`` reads both manifests on the
driver, before anything is trained. What may stand in ``clean_uri``, and the memory: ``pipeline/audio/partners.py``.
"""

from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest, decoded_lengths
from pipeline.audio.partners import Partners
from pipeline.batches.pieces import Piece, PieceSettings
from pipeline.batches.utterances import Shard, Utterances
from pipeline.errors import DatasetError, SettingsError

CLEAN = "clean_uri"
_NAMED = 5


class CleanPieces:
    """Finds the clean partner of a piece; several threads may ask for one."""

    def __init__(self, utterances: Utterances) -> None:
        """Read where each clean recording is.

        Args:
            utterances: Those of the clean recordings, joined with their tokens or features.
        """
        self._utterances = utterances
        self._places = _places(utterances.manifest)

    def __call__(self, piece: Piece) -> Piece:
        """Give the clean partner of a piece.

        Args:
            piece: A piece with the label ``clean_uri``, or a stretch of one.

        Returns:
            The same frames of the clean recording.

        Raises:
            DatasetError: It has no partner, or another number of frames.
            SettingsError: It names a recording that is several utterances.
        """
        uri = piece.labels[CLEAN]
        place = self._places.find(uri)
        if place is None:
            raise DatasetError(
                f"{piece.utterance_id} has the clean_uri {uri!r}, which is no recording of {self._utterances.uri}"
            )
        unit, utterance_id = place
        found = [one for one in self._utterances.pieces([unit]) if one.utterance_id == utterance_id]
        # Cut where the noisy one was, or not at all.
        partner = next((one for one in found if one.first_frame == piece.first_frame), None)
        if partner is None or partner.num_frames != piece.num_frames:
            count = "none" if partner is None else str(partner.num_frames)
            raise DatasetError(
                f"{piece.key} has {piece.num_frames} frames, its clean recording {uri} has {count} in "
                f"{self._utterances.uri}; both must have the same"
            )
        return partner

    def lacks(self, piece: Piece) -> bool:
        """Say whether a piece names a clean recording of the manifest that has no tokens, as one that was rejected."""
        place = self._places.find(piece.labels[CLEAN])
        return place is not None and place[1] in self._without(place[0])

    def _without(self, unit: str) -> frozenset[str]:
        (shard,) = self._utterances.shards([unit])
        return frozenset(shard.unmatched)


class NoisyUtterances(Utterances):
    """Utterances of which those whose clean recording has no tokens count as unmatched."""

    def __init__(self, settings: PieceSettings, partners: CleanPieces) -> None:
        """Open the datasets.

        Args:
            settings: What to open; ``clean_uri`` among its labels.
            partners: Finds the clean recordings.
        """
        super().__init__(settings)
        self._partners = partners

    def _joined(self, unit: str) -> Shard:
        found = super()._joined(unit)
        lacking = {piece.utterance_id for piece in found.pieces if self._partners.lacks(piece)}
        return Shard(
            pieces=tuple(piece for piece in found.pieces if piece.utterance_id not in lacking),
            unmatched=(*found.unmatched, *sorted(lacking)),
        )


def _places(manifest: Manifest) -> Partners[tuple[str, str]]:
    places: Partners[tuple[str, str]] = Partners(manifest.dataset.uri, whole=not manifest.joined)
    for unit, rows in manifest.scan(["uri", "utterance_id"]):
        for uri, utterance_id in zip(rows["uri"].to_pylist(), rows["utterance_id"].to_pylist(), strict=True):
            places.add(uri, utterance_id, (unit, utterance_id))
    return places


def check_clean(noisy: Manifest, clean: Manifest, clock: Clock) -> int:
    """Refuse manifests whose recordings are no partners of equal length.

    Args:
        noisy: Manifest with ``clean_uri``.
        clean: Manifest of the recordings that it names.
        clock: The encoder's frames.

    Returns:
        The utterances of ``noisy`` without a ``clean_uri``: they have no partner and must be left out.

    Raises:
        SettingsError: A clean recording is not there, is several utterances, or has another number of frames, or there
            is no ``clean_uri``.
    """
    frames: Partners[int] = Partners(clean.dataset.uri, whole=not clean.joined)
    for _, rows in clean.scan(["uri", "utterance_id", *clean.length_columns]):
        counts = clock.frame_counts(decoded_lengths(rows, clock.sample_rate))
        for uri, utterance_id, count in zip(
            rows["uri"].to_pylist(), rows["utterance_id"].to_pylist(), counts.tolist(), strict=True
        ):
            frames.add(uri, utterance_id, count)
    without, partners, wrong = 0, 0, []
    for _, rows in noisy.scan(["utterance_id", CLEAN, *noisy.length_columns]):
        counts = clock.frame_counts(decoded_lengths(rows, clock.sample_rate))
        names = zip(rows["utterance_id"].to_pylist(), rows[CLEAN].to_pylist(), counts.tolist(), strict=True)
        for utterance_id, uri, count in names:
            if uri is None:
                without += 1
            elif (found := frames.find(uri)) != count:
                there = "not there" if found is None else f"{found} frames, not {count}"
                wrong.append(f"{utterance_id}: {uri} ({there})")
            else:
                partners += 1
    if wrong or not partners:
        told = "; ".join(wrong[:_NAMED]) or "no utterance has a clean_uri"
        raise SettingsError(
            f"{len(wrong):,} utterances of {noisy.dataset.uri} have no partner of equal length in "
            f"{clean.dataset.uri}: {told}"
        )
    return without
