"""What is taken at a glance for a text without secrets has none by any pattern."""

import random

from pipeline import redaction

PIECES = (
    *(
        "s3://",
        "s3//",
        "https:/",
        "file:///",
        "//",
        "/",
        "?",
        "&",
        ";",
        "=",
        "%3d",
        "%3f",
        ":",
        "@",
        " ",
        ".",
        "-",
        "_",
    ),
    *("user", "password", "sig", "token", "key", "bucket", "a.wav", "X-Amz-Signature", "secret_key", "12:30"),
    *("Bearer ", "Basic ", "bearer ", "A" * 16, "a1B2" * 9, "AKIA", "ghp_", "github_pat_", "glpat-", "hf_", "xoxb-"),
    *("sk-", "sk-ant-", "AIza", "eyJ", "-----BEGIN PRIVATE KEY-----", "\xe9", "\n", "\u212a", "\uff1a", "\uff1d"),
)


def test_no_text_with_a_secret_is_taken_for_one_without():
    drawn = random.Random(0)
    texts = ["".join(drawn.choices(PIECES, k=drawn.randint(1, 7))) for _ in range(50_000)]
    secret = [text for text in texts if redaction._found_secret(text)]
    assert 1_000 < len(secret) < 49_000
    assert [text for text in texts if redaction.holds_secret(text)] == secret
