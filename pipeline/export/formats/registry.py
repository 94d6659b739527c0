"""The formats by name.

A reader gives back the ids that were written; those of ``slamkit`` and ``fairseq`` give units of the one layer,
counted from 0, without special tokens.
"""

from pipeline.export.formats import fairseq, megatron, nanotron, olmo, parquet, slamkit, webdataset
from pipeline.export.formats.arrays import Read, Writer

FORMATS: dict[str, Writer] = {
    "megatron": megatron,
    "nanotron": nanotron,
    "olmo": olmo,
    "parquet": parquet,
    "webdataset": webdataset,
    "slamkit": slamkit,
    "fairseq": fairseq,
}
READERS: dict[str, Read] = {
    "megatron": megatron.read,
    "nanotron": nanotron.read,
    "olmo": olmo.read,
    "parquet": parquet.read,
    "webdataset": webdataset.read,
    "slamkit": slamkit.read,
    "fairseq": fairseq.read,
}
