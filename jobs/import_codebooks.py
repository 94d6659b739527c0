r"""Import codebooks that other programs fitted: scikit-learn K-means (fairseq's km.bin), .npy, faiss.

    python jobs/import_codebooks.py --files km_l9.bin km_l12.npy --layers 9 12 \
        --encoder facebook/hubert-base-ls960 --output out/codebooks
    ray job submit --working-dir . -- python jobs/import_codebooks.py --files s3://b/km_l9.bin --layers 9 \
        --encoder facebook/hubert-base-ls960 --output s3://b/codebooks

Pickles are opened in a process of their own, and none of their code is run. Needs no Ray.
"""

from pipeline import cli
from pipeline.kmeans.imports.stage import import_codebooks

if __name__ == "__main__":
    cli.run(import_codebooks, description=__doc__)
