"""A card as Markdown for people, in the form of a dataset card of the Hugging Face Hub.

Names, paths and labels come from data: they are shown as they are and cannot become markup (``cards/text.py``).
"""

from pipeline.cards.markdown import bullets, page, share, table
from pipeline.cards.plots import section
from pipeline.cards.text import escaped
from pipeline.export.cards.card import ALL, ExportCard
from pipeline.export.cards.commands import commands, documents, front_matter
from pipeline.export.cards.measures import SPECIALS, TEXT, Shares
from pipeline.export.cards.plots import PLOTS
from pipeline.export.cards.statistics import MICROSECONDS
from pipeline.export.grouping import TRAIN, VALID

FOLDER = "_card"
"""Where the plots lie, beside ``README.md``: ``_card/lengths.png``."""
MOST_ROWS = 20
"""Speakers, languages and parts in a table; the JSON has more of them."""

_SIDES = {TRAIN: "train", VALID: "validation", ALL: "all"}


def render(card: ExportCard, *, plots: bool) -> str:
    """Write a card as ``README.md``; equal cards give equal text.

    Args:
        card: The card.
        plots: Whether its plots lie in ``FOLDER``.
    """
    sections = [
        front_matter(card),
        f"# {escaped(card.name)}",
        _what(card),
        "## Amounts\n\n" + table(("", *_SIDES.values()), _amounts(card)),
        "## Numbers a second of audio\n\n" + table(("measure", "value"), _rates(card)),
        _ngrams(card),
        _vocabulary(card),
        _lengths(card),
        *(_shares(name, card.shares[name], card.amounts[ALL].microseconds) for name in card.shares),
        _rejects(card),
        _formats(card),
        _lineage(card),
        section(PLOTS, card, drawn=plots, file=lambda name: f"{FOLDER}/{name}.png", again="export again"),
        "## Limits\n\n" + bullets(_limits(card)),
    ]
    return page(sections)


def _what(card: ExportCard) -> str:
    amounts, pattern = card.amounts[ALL], card.pattern
    columns = ", ".join(escaped(column) for column in pattern["columns"])
    layers = "Layers" if len(pattern["columns"]) > 1 else "Layer"
    order = {
        "single": "one token a frame",
        "flatten": "frame by frame, in this order",
        "delay": f"frame by frame, in this order, delayed by {escaped(pattern['delays'])} frames",
    }[pattern["name"]]
    repeated = ", frames that repeat the one before left out" if pattern["deduplicate"] else ""
    merged = f", unit BPE of {card.bpe.merges:,} merges" if card.bpe else ""
    return (
        f"{_hours(amounts.microseconds)} hours of speech in {amounts.utterances:,} utterances, which make "
        f"{documents(card):,} documents, as {amounts.ids:,} discrete tokens of a speech encoder for the pretraining of "
        f"language models. {layers} {columns}: {order}{repeated}{merged}. Ids are {card.vocabulary.dtype}; "
        "`vocabulary.json` says what each stands for, and `tokenizer` is a folder for `AutoTokenizer`."
    )


def _amounts(card: ExportCard) -> list[list[str]]:
    rows = {
        "hours": [_hours(card.amounts[side].microseconds) for side in _SIDES],
        "utterances": [f"{card.amounts[side].utterances:,}" for side in _SIDES],
        "rows (an utterance that is too long has several)": [f"{card.amounts[side].rows:,}" for side in _SIDES],
        "frames": [f"{card.amounts[side].frames:,}" for side in _SIDES],
        "frames after deduplication": [f"{card.amounts[side].kept_frames:,}" for side in _SIDES],
        "ids before unit BPE": [f"{card.amounts[side].ids_before_bpe:,}" for side in _SIDES],
        "ids, without those that begin and end documents": [f"{card.amounts[side].ids:,}" for side in _SIDES],
    }
    return [[name, *values] for name, values in rows.items()]


def _rates(card: ExportCard) -> list[tuple[str, str]]:
    rates, bits = card.rates, card.bitrate
    rows = [
        ("tokens of all layers", _number(rates.tokens)),
        ("tokens after deduplication", _number(rates.kept_tokens)),
        ("ids before unit BPE", _number(rates.ids_before_bpe)),
        ("ids", _number(rates.ids)),
        ("bits, log2 K for each token", _number(bits.fixed)),
        ("bits after deduplication, log2 K for each token", _number(bits.kept_fixed)),
        ("bits after deduplication, entropy of each layer's tokens", _number(bits.kept_entropy)),
    ]
    if bits.bpe_fixed is not None and bits.bpe_entropy is not None and card.bpe is not None:
        rows += [
            ("bits after unit BPE, log2 of units and merges for each id", _number(bits.bpe_fixed)),
            ("bits after unit BPE, entropy of the ids", _number(bits.bpe_entropy)),
            ("ids before unit BPE for each id after", _number(card.bpe.ids_per_id)),
        ]
    return rows


def _ngrams(card: ExportCard) -> str:
    found = card.ngrams
    if found is None or not found.orders:
        return ""
    rows = [
        (
            f"{entry.order}",
            f"{entry.bits:.4f}",
            f"{entry.corrected_bits:.4f}",
            f"{entry.positions:,}",
            f"{entry.distinct:,}",
            share(entry.once),
        )
        for entry in found.orders
    ]
    head = ("n", "bits an id", "Miller-Madow", "n-grams", "different", "of these once")
    text = (
        f"## How predictable the ids are\n\nEntropy of an id when the n - 1 before it are known, measured on a sample "
        f"of {found.rows:,} rows with {found.ids:,} ids. Where many n-grams occur once, the entropy is too low, and "
        "its correction too small.\n\n" + table(head, rows)
    )
    if found.held_out is None:
        return text
    return text + (
        f"\n\nWhat a language model is to be compared with: learned from one half of the sample, single ids need "
        f"**{found.held_out.unigram_bits:.4f}** bits an id on the other half, bigrams (interpolated Kneser-Ney) "
        f"**{found.held_out.bigram_bits:.4f}**; both ways, {found.held_out.ids:,} ids, the first of each row included."
    )


def _vocabulary(card: ExportCard) -> str:
    use = card.vocabulary
    rows = [
        (
            escaped(block.name),
            f"{block.size:,}",
            f"{block.occurrences:,}",
            "" if block.name in (SPECIALS, TEXT) else f"{block.dead:,}",
            f"{block.entropy_bits:.4f}",
            _number(block.perplexity),
            share(block.largest_share),
        )
        for block in use.blocks
    ]
    inside = " Tokens of layers are counted inside the merges of unit BPE too." if card.bpe else ""
    return (
        f"## Vocabulary\n\n{use.size:,} ids, of which {use.possible:,} stand for something and {use.used:,} "
        f"({share(use.used / use.possible)}) occur in utterances.{inside}\n\n"
        + table(("part", "ids", "occurrences", "dead", "entropy, bits", "perplexity", "most frequent"), rows)
    )


def _lengths(card: ExportCard) -> str:
    found = card.lengths
    if not found.quantiles:
        return ""
    rows = [
        (f"{100 * float(share):g} % are shorter than", "" if edge is None else f"{edge / MICROSECONDS:.4g} s")
        for share, edge in found.quantiles.items()
    ]
    text = "Edges of bins, four an octave: at most 19 % too large."
    return f"## Lengths of utterances\n\n{text}\n\n" + table(("utterances", "length"), rows)


def _shares(name: str, found: Shares, microseconds: int) -> str:
    rows = [(escaped(value), lasted, ids) for value, lasted, ids in found.largest[:MOST_ROWS]]
    shown = found.largest[MOST_ROWS:]
    others = found.others[0] + len(shown)
    if others:
        lasted = found.others[1] + sum(row[1] for row in shown)
        rows.append((f"{others:,} others", lasted, found.others[2] + sum(row[2] for row in shown)))
    if any(found.unknown):
        rows.append(("unknown", *found.unknown))
    lines = [
        (value, _hours(lasted), share(lasted / microseconds) if microseconds else "", f"{ids:,}")
        for value, lasted, ids in rows
    ]
    title = {"speaker": "Speakers", "language": "Languages", "corpus": "Parts"}[name]
    return f"## {title}\n\n{found.values:,} known.\n\n" + table((name, "hours", "share", "ids"), lines) if rows else ""


def _rejects(card: ExportCard) -> str:
    rows = [
        (escaped(dataset), escaped(reason), f"{number:,}")
        for dataset, reasons in sorted(card.rejects.items())
        for reason, number in sorted(reasons.items())
    ]
    return "## Rejects\n\n" + (table(("dataset", "reason", "number"), rows) if rows else "None.")


def _formats(card: ExportCard) -> str:
    rows = [
        (
            escaped(name),
            f"{facts.documents:,}",
            f"{facts.ids:,}",
            f"{facts.shards:,}",
            f"{facts.files:,}",
            f"{facts.bytes:,}",
            share(facts.largest_imbalance),
        )
        for name, facts in sorted(card.formats.items())
    ]
    if not rows:
        return ""
    head = ("format", "documents", "ids", "shards", "files", "bytes", "largest imbalance of shards")
    opened = [f"{name}:\n\n```{language}\n{text}\n```" for name, language, text in commands(card)]
    return "\n\n".join(["## Formats", table(head, rows), *(["## How to open them", *opened] if opened else [])])


def _lineage(card: ExportCard) -> str:
    rows = [
        (escaped(part), escaped(name), escaped(value))
        for part, facts in sorted(card.lineage.items())
        for name, value in sorted(facts.items())
    ]
    return "## Where the tokens come from\n\n" + table(("part", "fact", "value"), rows) if rows else ""


def _limits(card: ExportCard) -> list[str]:
    lines = [
        "Counts are exact; speakers and languages of the same name are one, whatever part they are of.",
        "Bitrates price each token by itself, by how frequent it is at most; a model of sequences needs fewer bits. "
        "How long deduplicated tokens last is not paid for.",
        "Entropies of blocks are plain estimates: with few occurrences an id they are too low.",
    ]
    if card.ngrams is not None and card.ngrams.held_out is not None:
        lines.append(
            "Halves of the sample are drawn by utterance: a speaker may be in both. A model that is compared with them "
            "is to be averaged over the same ids, without those that begin and end documents."
        )
    if any(block.name == TEXT and block.occurrences for block in card.vocabulary.blocks):
        lines.append(
            "Where text stands for speech, numbers a second count the audio of whole rows, and tokens of spoken spans."
        )
    return lines


def _hours(microseconds: int) -> str:
    hours = microseconds / MICROSECONDS / 3600
    return f"{hours:,.1f}" if hours >= 10 else f"{hours:.4g}"


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 1000 else f"{value:.4g}"
