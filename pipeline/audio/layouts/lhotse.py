"""lhotse: CutSets as JSON lines, ``cuts.jsonl`` or ``cuts.jsonl.gz``; a cut is an utterance.

The corpus is a manifest, several by a pattern such as ``cuts.{000..099}.jsonl.gz``, or a folder, of which the manifests
with ``cuts`` in their names are read. Relative paths start at the manifest's folder, where lhotse begins at the working
directory. Commands, URLs and audio in memory are refused one by one, as is what lhotse would compute while it loads
(mixes, speed, resampling). Source: https://lhotse.readthedocs.io (Cuts). Memory: a line.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.audio.candidate import Candidate, locate, shown
from pipeline.audio.layouts.lhotse_cuts import read_cuts
from pipeline.audio.layouts.manifests import expanded, files_of_folder, is_folder, require_manifests
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import PassedOver
from pipeline.schema import Reason

_REFUSED = {
    "command": "a command, which is never run; write its output to a file",
    "memory": "in memory, which no manifest can hold",
    "shar": "in the tars beside the manifest: read their folder with the layout lhotse-shar",
}


def read_lhotse(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the cuts of the corpus; an utterance is called as its cut."""
    require_manifests(corpus, "lhotse")
    if is_folder(corpus):
        files = files_of_folder(corpus, _holds_cuts, "*cuts*.jsonl or .jsonl.gz", passed_over)
    else:
        files = expanded(corpus)
    return _read(corpus, files, passed_over)


def _holds_cuts(name: str) -> bool:
    return "cuts" in name and name.lower().endswith((".jsonl", ".jsonl.gz")) and not name.startswith(".")


def _read(corpus: str, files: Sequence[str], passed_over: PassedOver) -> Iterator[Candidate]:
    empty = True
    for file in files:
        folder = posixpath.dirname(file)

        def place(_: str, source: Mapping[str, Any], folder: str = folder) -> Mapping[str, Any]:
            return {"uri": _uri(source, folder)}

        for candidate in read_cuts(file, place, passed_over):
            empty = False
            yield candidate
    if empty:
        raise ManifestError(f"{corpus} holds no recordings: it has no cuts")


def _uri(source: Mapping[str, Any], folder: str) -> str:
    kind, written = source.get("type"), source.get("source")
    if kind not in ("file", "url"):
        told = _REFUSED.get(kind) if isinstance(kind, str) else None
        raise _bad(f"the audio is {told}" if told else f"audio of the type {shown(kind)} is not read")
    if not isinstance(written, str) or not written:
        raise _bad(f"the source of the recording must be a path, got {shown(written)}")
    if kind == "url" and "://" not in written:
        raise _bad(f"the URL of the recording has no scheme: {shown(written)}")
    return locate(written, folder)


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)
