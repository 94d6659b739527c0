r"""Turn word or phone times of other tools into the alignment that describe_codebooks and export_tokens read.

    python jobs/convert_alignments.py --format textgrid --alignments aligned --manifest out/manifest \
        --output out/words.parquet
    ray job submit --working-dir . -- python jobs/convert_alignments.py --format lhotse --tier phones \
        --alignments s3://b/cuts.jsonl.gz --manifest s3://b/manifest --output s3://b/phones.parquet

The output is one file, .parquet or .csv, which other runs replace. What does not meet is counted.
"""

from pipeline import cli
from pipeline.audio.alignments.stage import convert_alignments

if __name__ == "__main__":
    cli.run(convert_alignments, description=__doc__)
