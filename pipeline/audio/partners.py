"""How a noisy utterance names its clean partner: what may stand in ``clean_uri``, and how it is found.

The name of a recording that is one utterance is its uri. Where a file holds several (segments, members of tars, cells
of Parquet, joined utterances), or may, the name is ``URI#UTTERANCE_ID``. Ids hold no ``#``, so the last one parts it.
Memory: about 300 bytes per clean recording.
"""

from typing import Generic, TypeVar

from pipeline.errors import SettingsError

Value = TypeVar("Value")


def partner_name(uri: str, utterance_id: str, *, whole: bool) -> str:
    """Name a clean utterance.

    Args:
        uri: Where its recording is.
        utterance_id: Its id.
        whole: Whether it is all of the file, and the only utterance of it.
    """
    return uri if whole else f"{uri}#{utterance_id}"


class Partners(Generic[Value]):
    """What is known of clean utterances, found by their names."""

    def __init__(self, manifest: str, *, whole: bool) -> None:
        """Begin with none.

        Args:
            manifest: Where they are from, for messages.
            whole: Whether a uri alone may name one: not where utterances are joined of pieces.
        """
        self._manifest, self._whole = manifest, whole
        self._by_id: dict[str, tuple[str, Value]] = {}
        self._ids_of: dict[str, str] = {}
        self._second: dict[str, str] = {}

    def add(self, uri: str, utterance_id: str, value: Value) -> None:
        """Add an utterance."""
        self._by_id[utterance_id] = uri, value
        if self._whole and self._ids_of.setdefault(uri, utterance_id) != utterance_id:
            self._second.setdefault(uri, utterance_id)

    def find(self, name: str | None) -> Value | None:
        """Give what is known of an utterance; None where there is no such one.

        Raises:
            SettingsError: The name is the uri of several utterances.
        """
        if name is None:
            return None
        if name in self._second:
            raise SettingsError(
                f"{self._manifest} has several utterances of {name}, as {self._ids_of[name]} and {self._second[name]}; "
                "a clean_uri that is to name one of them ends in # and its id, or give a manifest without segments"
            )
        if name in self._ids_of:
            return self._by_id[self._ids_of[name]][1]
        uri, _, utterance_id = name.rpartition("#")
        found_uri, value = self._by_id.get(utterance_id, (None, None))
        return value if found_uri == uri else None
