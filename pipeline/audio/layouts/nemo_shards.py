"""Where the manifests and tars of a tarred NeMo dataset lie, and which belong together.

    tarred_audio_manifest.json      all lines, each with its shard_id
    sharded_manifests/manifest_0.json, manifest_1.json ...
    audio_0.tar, audio_1.tar ...

NeMo is given two patterns; here the corpus is that of the manifests, or the folder, and the tars are found beside: in
the folder of a manifest, or the one above ``sharded_manifests``. Numbers at the end of the names are shards.
Source: https://docs.nvidia.com/nemo-framework (ASR, Tarred Datasets). Memory: the names of these files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.audio.layouts.manifests import expanded, is_folder, manifest_folder, require_manifests
from pipeline.audio.walking import pass_over_file, there_is
from pipeline.errors import ManifestError
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.storage import join, open_store

SHARDED = "sharded_manifests"

_MANIFEST = re.compile(r"manifest[^/]*_([0-9]{1,9})[^/]*\.jsonl?(?:\.gz)?")
_WHOLE = re.compile(r"tarred_audio_manifest(?:_version_([0-9]{1,9}))?\.jsonl?(?:\.gz)?")
_TAR = re.compile(r"audio[^/]*_([0-9]{1,9})[^/]*\.tar")
# How the braces of a pattern are spelt where a shell or a job system would take them.
_TAGS = {"_OP_": "{", "_CL_": "}"}
_METADATA = re.compile(r"metadata(?:_version_[0-9]+)?\.yaml")


@dataclass(frozen=True, kw_only=True)
class Shards:
    """What a tarred dataset is made of.

    Attributes:
        manifests: Its manifests, each with the shard it is of; None where its lines say so.
        tars: The tar of each shard.
        whole: Whether the manifests ought to name all of the tars.
    """

    manifests: Sequence[tuple[str, int | None]]
    tars: Mapping[int, str]
    whole: bool


def find_shards(corpus: str, passed_over: PassedOver) -> Shards:
    """Find them.

    Args:
        corpus: The folder, a manifest or a pattern of manifests, without tags.
        passed_over: Counts other files of the folder.

    Raises:
        ManifestError: There are none, or two of one number.
    """
    require_manifests(corpus, "nemo")
    if is_folder(corpus):
        manifests = _of_folder(corpus, passed_over)
    else:
        files = expanded(corpus)
        # As NeMo: of one manifest the lines say which shard they are of, of several the names.
        manifests = [(files[0], None)] if len(files) == 1 else [(file, _number(file)) for file in files]
    tars = _tars(tar_folder(corpus), manifests[0][0])
    if without := [file for file, number in manifests if number is not None and number not in tars]:
        number = _number(without[0])
        raise ManifestError(
            f"there is no audio_{number}.tar for {without[0]} in {tar_folder(corpus)}, nor beside the manifest"
        )
    whole = is_folder(corpus) or _WHOLE.fullmatch(corpus.rpartition("/")[2]) is not None
    if whole and manifests[0][1] is not None:
        unnamed = sorted(set(tars) - {number for _, number in manifests})
        count_tars([tars[number] for number in unnamed], passed_over)
    return Shards(manifests=manifests, tars=tars, whole=whole)


def count_tars(tars: Sequence[str], passed_over: PassedOver) -> None:
    """Count tars that no manifest names."""
    for tar in tars:
        passed_over.add(Kind.UNLISTED_FILES, example=tar.rpartition("/")[2], name=".tar")


def tar_folder(corpus: str) -> str:
    """Name the folder under which the tars of a corpus lie."""
    folder = manifest_folder(plain_pattern(corpus))
    above, _, name = folder.rpartition("/")
    return above if name == SHARDED else folder


def plain_pattern(corpus: str) -> str:
    """Spell a pattern with braces that has NeMo's tags in their place."""
    for tag, brace in _TAGS.items():
        corpus = corpus.replace(tag, brace)
    return corpus


def _of_folder(corpus: str, passed_over: PassedOver) -> Sequence[tuple[str, int | None]]:
    """Give the manifests of a folder: those of the shards where there are some, else the one of all."""
    found: dict[int, str] = {}
    whole: dict[int, str] = {}
    for name in open_store(corpus).names():
        if match := _WHOLE.fullmatch(name):
            whole[int(match[1] or 0)] = join(corpus, name)
        elif match := _MANIFEST.fullmatch(name):
            _add(found, int(match[1]), join(corpus, name))
        elif not _TAR.fullmatch(name) and not _METADATA.fullmatch(name):
            pass_over_file(name, passed_over)
    beside = bool(found)
    for name in open_store(join(corpus, SHARDED)).names():
        if match := _MANIFEST.fullmatch(name):
            _add(found, int(match[1]), join(corpus, SHARDED, name))
        else:
            pass_over_file(f"{SHARDED}/{name}", passed_over)
    if found:
        # In sharded_manifests NeMo writes the lines of the whole manifest again; elsewhere nothing says so.
        for file in whole.values() if beside else ():
            name = file.rpartition("/")[2]
            passed_over.add(Kind.UNREAD_LINES, example=f"{name}, beside manifests of shards", name=name)
        return [(found[number], number) for number in sorted(found)]
    if whole:
        return [(whole[max(whole)], None)]
    raise ManifestError(
        f"{corpus} holds no recordings of a tarred NeMo dataset: neither tarred_audio_manifest.json nor "
        f"{SHARDED}/manifest_0.json{there_is(passed_over, corpus)}"
    )


def _tars(folder: str, manifest: str) -> Mapping[int, str]:
    tars: dict[int, str] = {}
    for place in dict.fromkeys((folder, manifest.rpartition("/")[0])):
        for name in open_store(place or "/").names():
            if match := _TAR.fullmatch(name):
                _add(tars, int(match[1]), join(place, name))
    if not tars:
        raise ManifestError(
            f"{folder} holds no recordings in audio_0.tar and so on, as a tarred NeMo dataset does; a manifest of "
            "plain files has the layout listing"
        )
    return tars


def _add(found: dict[int, str], number: int, file: str) -> None:
    if number in found:
        raise ManifestError(f"{found[number]} and {file} are both shard {number}; move one of them away")
    found[number] = file


def _number(file: str) -> int:
    match = _MANIFEST.search(file.rpartition("/")[2])
    if match is None:
        raise ManifestError(f"the shard of {file} cannot be told: it is not called as manifest_0.json")
    return int(match[1])
