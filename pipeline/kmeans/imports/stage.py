"""Import codebooks that other programs fitted, so that tokenize_corpus takes them.

Reads: one file a layer; an encoder's files, not its weights into memory. Writes: a codebooks dataset like that of
fit_kmeans, ``layer_09_k500.safetensors`` for each layer, whose lineage names the file, its hash and its format.
Restart: layers without a commit are written, others not. Needs no Ray. Memory: all codebooks, and one file three times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline import schema
from pipeline.errors import CodebookMismatchError, ForeignCodebookError, SettingsError
from pipeline.features.encoders.info import EncoderInfo, describe
from pipeline.features.passes.settings import encoder_label
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.imports.foreign import MAX_FILE_BYTES, read_foreign
from pipeline.store.completion import finish, status
from pipeline.store.dataset import Dataset, Output, Plan, check_folder, sha256
from pipeline.store.provenance import record_settings
from pipeline.store.storage import absolute, open_store
from pipeline.work.reporting import StageReport, Tally

DATA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ImportCodebooksConfig:
    """Settings of import_codebooks."""

    files: tuple[str, ...]
    """Codebook files, one a layer, local or s3://: scikit-learn's K-means (pickle or joblib, as fairseq's km.bin),
    .npy of (K, D) floats, or a faiss IndexFlatL2."""
    layers: tuple[int, ...]
    """Layer of each file, in their order: 0 is the input of the first block, l the raw output of block l."""
    encoder: str
    """Encoder whose features were clustered: a Hugging Face name, a local folder, or s3:// folder; or mfcc."""
    output: str
    """Folder of the codebooks, local or s3://."""
    revision: str | None = None
    """Git revision of a Hugging Face name, to pin it."""
    normalize_waveform: bool | None = None
    """Whether each utterance was normalised to zero mean and unit variance before the encoder, when the features were
    made that were clustered. Said here, other tokens are refused; default: not known."""

    def __post_init__(self) -> None:
        if not self.files or len(self.files) != len(self.layers):
            raise SettingsError(
                f"each file needs its layer: got {len(self.files)} file(s) and {len(self.layers)} layer(s)"
            )
        if len(set(self.layers)) != len(self.layers) or min(self.layers) < 0:
            raise SettingsError(f"layers must be distinct numbers from 0, got {list(self.layers)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImport:
    """What is known before anything is written: the plan, and the codebook of each of its units."""

    plan: Plan
    codebooks: Sequence[Codebook]


def prepare(config: ImportCodebooksConfig) -> PreparedImport:
    """Read and check every file, plan the codebooks, and refuse a folder that holds others. Writes nothing.

    Raises:
        ForeignCodebookError: A file cannot be read, or not safely.
        CodebookMismatchError: Its centroids have another width than the encoder's features.
        EncoderError: The encoder cannot be found, or has not these layers.
        PlanMismatchError: The output folder was made with other settings.
    """
    # Whether waveforms are normalised changes neither the encoder's hash nor its clock, so the answer is not asked for.
    encoder = describe(config.encoder, layers=config.layers, revision=config.revision, normalize_waveform=False)
    lineage = {
        "encoder": encoder_label(config.encoder),
        "encoder_sha256": encoder.weights_sha256,
        "dim": encoder.dim,
        "sample_rate": encoder.sample_rate,
        "hop_length": encoder.hop_length,
        "frame_rate": encoder.frame_rate,
        "kind": "codebooks",
        "schema_version": schema.SCHEMA_VERSION,
    }
    if config.normalize_waveform is not None:
        lineage["normalize_waveform"] = config.normalize_waveform
    named = sorted(zip(config.layers, config.files, strict=True))
    codebooks = [_import_one(uri, layer, encoder, lineage) for layer, uri in named]
    hashes = {schema.layer_column(book.layer): book.lineage["source"]["sha256"] for book in codebooks}
    plan = Plan(
        kind="codebooks",
        content={
            "import_version": DATA_VERSION,
            "encoder_sha256": encoder.weights_sha256,
            "files": hashes,
            **({} if config.normalize_waveform is None else {"normalize_waveform": config.normalize_waveform}),
        },
        lineage=lineage,
        units=[schema.codebook_unit(book.layer, book.num_clusters) for book in codebooks],
        extension=".safetensors",
    )
    check_folder(open_store(config.output), plan)
    return PreparedImport(plan=plan, codebooks=codebooks)


def _import_one(uri: str, layer: int, encoder: EncoderInfo, lineage: dict[str, Any]) -> Codebook:
    data = _read(uri)
    found = read_foreign(data, uri)
    dim = found.centroids.shape[1]
    if dim != encoder.dim:
        raise CodebookMismatchError(
            f"{uri} has centroids of width {dim}, features of {encoder.name} have {encoder.dim}; "
            "name the encoder whose features were clustered"
        )
    # The file's name only: its path differs between machines, and codebooks must not.
    source = {"file": PurePosixPath(uri).name, "sha256": sha256(data), **found.origin}
    return found.as_codebook(layer, {**lineage, "source": source})


def _read(uri: str) -> bytes:
    folder, _, name = absolute(uri).rpartition("/")
    try:
        with open_store(folder or "/").open(name) as file:
            data: bytes = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ForeignCodebookError(f"{uri} cannot be read ({error.strerror or error}); check --files") from error
    if len(data) > MAX_FILE_BYTES:
        raise ForeignCodebookError(f"{uri} has more than {MAX_FILE_BYTES} bytes, which no codebook needs")
    return data


def import_codebooks(config: ImportCodebooksConfig) -> StageReport:
    """Turn codebook files of other programs into a codebooks dataset.

    Tokens are those that the other program's own search gives on the same features, up to near-ties that its
    rounding decides (``docs/importing.md``).

    Raises:
        ForeignCodebookError: A file cannot be read, or not safely.
        CodebookMismatchError: Its centroids have another width than the encoder's features.
        EncoderError: The encoder cannot be found, or has not these layers.
        PlanMismatchError: The output folder was made with other settings.
    """
    prepared = prepare(config)
    dataset = Dataset.create(config.output, prepared.plan)
    record_settings(dataset.store, config)
    tally = Tally(status(dataset))
    pending = set(dataset.pending())
    for book in prepared.codebooks:
        unit = schema.codebook_unit(book.layer, book.num_clusters)
        if unit in pending:
            # No arithmetic but one rounding: nothing that a machine could do otherwise.
            output = Output(data=book.to_bytes(), rows=book.num_clusters)
            dataset.commit(unit, dataset.announce(unit), output, numerics={})
            tally.units += 1
    digest = finish(dataset)
    return tally.report(status(dataset), workers="this process", dataset_sha256=digest)
