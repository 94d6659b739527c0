"""The small files beside recordings that hold their labels: a table of a folder, or a file for each, all at once.

Memory: the files of one folder.
"""

from pipeline.audio import fields
from pipeline.audio.candidate import printable
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.schema import Reason
from pipeline.store.storage import Store


def read_if_there(store: Store, path: str) -> bytes | None:
    """Read a table of labels; None where there is none.

    Args:
        store: The corpus.
        path: The table, below it.

    Raises:
        ManifestError: It cannot be read.
    """
    try:
        return store.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ManifestError(f"{store.uri}/{printable(path)} cannot be read: {error.strerror or error}") from error


def read_beside(store: Store, folder: str, ending: str) -> dict[str, bytes]:
    """Read the files of a folder that end in one way; on S3 they come concurrently.

    Args:
        store: The corpus.
        folder: The folder, below it.
        ending: How their names end.

    Returns:
        The content of each by its name without the ending; empty where there is no such folder.

    Raises:
        ManifestError: One of them cannot be read.
    """
    names = [name for name in store.names(folder) if name.endswith(ending)]
    try:
        contents = store.read_many([f"{folder}/{name}" for name in names])
    except OSError as error:
        raise ManifestError(f"the {ending} files of {store.uri}/{printable(folder)} cannot be read: {error}") from error
    return {name.removesuffix(ending): content for name, content in zip(names, contents, strict=True)}


def text_of(content: bytes) -> str | None:
    """Read a file that holds the text of one utterance and nothing else; None where it is blank.

    Raises:
        AudioDecodeError: BAD_ROW for what is no text.
    """
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise AudioDecodeError(Reason.BAD_ROW, f"it is not UTF-8 text: {error}") from error
    return fields.label({"text": text}, ("text",), "text")
