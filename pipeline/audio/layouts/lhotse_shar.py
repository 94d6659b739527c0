"""lhotse Shar: a folder of shards, each a manifest of cuts and a tar of their recordings.

    cuts.000000.jsonl.gz    recording.000000.tar    features.000000.tar (counted)    *.idx (not needed)

A cut has a placeholder in place of its audio; the tar has ``<cut id>.flac`` and ``<cut id>.json`` for each, in the
order of the cuts, or ``.nodata`` and ``.nometa`` where a cut has no recording. What is stored is cut out already: it
begins at 0. Source: https://lhotse.readthedocs.io (Lhotse Shar). Memory: a line of the manifest, the ids of a shard and
the names of members that come before their cut; on S3 also the candidates of 64 shards.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.audio.candidate import Candidate, shown
from pipeline.audio.layouts.lhotse_cuts import read_cuts
from pipeline.audio.layouts.tar_index import TarIndex
from pipeline.audio.tar_members import open_tar, read_in_order
from pipeline.audio.walking import pass_over_file, require_folder, there_is
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import Reason
from pipeline.store.storage import join, open_store

_CUTS = re.compile(r"cuts((?:\..+)?)\.jsonl(?:\.gz)?")
_TAR = re.compile(r"recording((?:\..+)?)\.tar")
_INDEXES = (".idx", ".idxpack")

_Shard = tuple[str, str]
"""The manifest and the tar."""


def read_lhotse_shar(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the shards of the corpus; an utterance is called as its cut."""
    require_folder(corpus)
    return _read(corpus, _shards(corpus, passed_over), passed_over)


def _shards(corpus: str, passed_over: PassedOver) -> Sequence[_Shard]:
    cuts: dict[str, str] = {}
    tars: dict[str, str] = {}
    for name in open_store(corpus).names():
        if match := _CUTS.fullmatch(name):
            if match[1] in cuts:
                raise ManifestError(f"{corpus} holds {cuts[match[1]]} and {name}; move one of them away")
            cuts[match[1]] = name
        elif match := _TAR.fullmatch(name):
            tars[match[1]] = name
        elif not name.endswith(_INDEXES):
            pass_over_file(name, passed_over)
    if not cuts:
        raise ManifestError(
            f"{corpus} holds no recordings: no file is called cuts.000000.jsonl.gz, as shards of lhotse are"
            f"{there_is(passed_over, corpus)}"
        )
    if without := [shard for shard in cuts if shard not in tars]:
        raise ManifestError(
            f"{join(corpus, cuts[without[0]])} has no recording{without[0]}.tar beside it; cuts whose recordings are "
            "plain files have the layout lhotse"
        )
    for shard in sorted(set(tars) - set(cuts)):
        passed_over.add(Kind.UNLISTED_FILES, example=tars[shard], name=".tar")
    return [(join(corpus, cuts[shard]), join(corpus, tars[shard])) for shard in cuts]


def _read(corpus: str, shards: Sequence[_Shard], passed_over: PassedOver) -> Iterator[Candidate]:
    empty = True
    for candidate in read_in_order(shards, _read_shard, passed_over, remote=corpus.startswith("s3://")):
        empty = False
        yield candidate
    if empty:
        raise ManifestError(f"{corpus} holds no recordings: its {len(shards)} shards have no cuts")


def _read_shard(shard: _Shard, passed_over: PassedOver) -> Iterator[Candidate]:
    manifest, tar = shard
    with open_tar(tar, passed_over) as members:
        index = TarIndex(tar, members, ignored=(".json", ".nodata", ".nometa"))
        taken: set[str] = set()

        def place(cut_id: str, _: Mapping[str, Any]) -> Mapping[str, Any]:
            found = index.take_stem(cut_id)
            if found is None and cut_id in taken:
                detail = f"an earlier cut of the shard is called {shown(cut_id)} too, and has its member"
                raise AudioDecodeError(Reason.DUPLICATE_ID, detail)
            if found is None:
                raise index.missing(cut_id)
            taken.add(cut_id)
            return found

        yield from read_cuts(manifest, place, passed_over)
        index.count_unused(passed_over)
