r"""Write tokens as data that trainers of language models open: Megatron, datasets, WebDataset and others.

    python jobs/export_tokens.py --tokens out/tokens --manifest out/manifest --output out/export
    ray job submit --working-dir . -- python jobs/export_tokens.py --tokens s3://b/tokens --manifest s3://b/manifest \
        --deduplicate --formats megatron --output s3://b/export

Tokens of another corpus become a further part of the same folder; what is there stays as it is.
"""

from pipeline import cli
from pipeline.export.stage import export_tokens

if __name__ == "__main__":
    cli.run(export_tokens, description=__doc__)
