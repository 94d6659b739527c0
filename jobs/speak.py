r"""Speak texts: a tts that train_task trained writes tokens, and a vocoder of these tokens speaks them.

    python jobs/speak.py --text "one two three" --task out/tts --vocoder out/vocoder --output out.wav
    python jobs/speak.py --text-file lines.txt --bundle out/tokenizer --output out/spoken
    ray job submit --working-dir . -- python jobs/speak.py --text-file s3://b/lines.jsonl --bundle s3://b/tokenizer \
        --output s3://b/spoken

The speech of a file is FLAC in Parquet shards; OUTPUT/_manifest is a manifest of it that every other job reads.
"""

from pipeline import cli
from pipeline.synthesis.speaking.stage import speak

if __name__ == "__main__":
    cli.run(speak, description=__doc__)
