"""A card as Markdown for people: what the codebook is, its numbers, its plots, and what they do not say."""

from collections.abc import Sequence

from pipeline.cards.markdown import bullets, page, share, table
from pipeline.cards.plots import section
from pipeline.kmeans.cards.card import CodebookCard
from pipeline.kmeans.cards.plots import PLOTS
from pipeline.kmeans.cards.quality import RARE


def render(card: CodebookCard, *, plots: bool) -> str:
    """Write a card as Markdown; equal cards give equal text.

    Args:
        card: The card.
        plots: Whether its plots lie beside it.
    """
    sections = [
        f"# Codebook {card.unit}",
        _what(card),
        "## Numbers\n\n" + table(("measure", "value"), _numbers(card)),
        _labels(card),
        _alignment(card),
        _stability(card),
        section(
            PLOTS, card, drawn=plots, file=lambda name: f"{card.unit}.{name}.png", again="run describe_codebooks again"
        ),
        "## Limits\n\n" + bullets(_limits(card)),
    ]
    return page(sections)


def render_index(cards: Sequence[CodebookCard]) -> str:
    """Write a table of cards, a line each, by layer, K and stage; NMI of labels and PNMI in columns of their own."""
    labels = sorted({name for card in cards for name in card.labels})
    head = [
        "codebook",
        "frames",
        "explained variance",
        "perplexity",
        "dead",
        "bit/s",
        "dedup ratio",
        "PNMI",
        "seeds agree",
    ]
    rows = [
        [
            f"[{card.unit}]({card.unit}.md)",
            f"{card.use.frames:,}",
            "" if card.explained_variance is None else share(card.explained_variance),
            f"{_number(card.use.perplexity)}",
            f"{card.use.dead:,}",
            _number(card.bitrate.entropy),
            "" if card.runs is None else share(card.runs.dedup_ratio),
            "" if card.alignment is None else f"{card.alignment.pnmi:.4f}",
            "" if card.stability is None else share(card.stability.matched_agreement),
            *(
                f"{card.labels[name].nmi:.4f} ({card.labels[name].nmi_drawn:.4f})" if name in card.labels else ""
                for name in labels
            ),
        ]
        for card in sorted(cards, key=lambda card: (card.layer, card.num_clusters, card.quantizer))
    ]
    columns = [*head, *(f"NMI {name} (drawn)" for name in labels)]
    text = "Each card says what its numbers mean. Cards may be of different frames."
    return page(["# Codebook cards", text, table(columns, rows)])


def _what(card: CodebookCard) -> str:
    lineage, speech, fit = card.lineage, card.described, card.fitting
    splits = f" of the splits {', '.join(speech.splits)}" if speech.splits else ""
    sample = ", a sample of them" if speech.sampled else ""
    return (
        f"{card.num_clusters:,} centroids of width {card.dim:,} over {_quantised(card)} of the encoder "
        f"`{lineage.get('encoder', 'unknown')}` (SHA-256 `{lineage['encoder_sha256'][:12]}`), fitted by K-means on "
        f"{fit.use.frames:,} frames in {len(fit.inertia):,} iterations, seed {lineage.get('seed', 'unknown')}. "
        f"SHA-256 of the codebook: `{card.made_from['codebook_sha256']}`.\n\n"
        f"It is described here on {card.use.frames:,} frames ({speech.seconds:,.1f} s) of {speech.utterances:,} "
        f"utterances{splits}{sample}. {_held_out(card)}"
    )


def _held_out(card: CodebookCard) -> str:
    number = len(card.lineage.get("inputs", ()))
    if card.described.fitted_on_these:
        these = f"one of the {number} features datasets" if number else "the features"
        return f"They are {these} that it was fitted on: nothing here is held out."
    return f"It was fitted on {f'{number} other features datasets' if number else 'another features dataset'}."


def _quantised(card: CodebookCard) -> str:
    if not card.quantizer:
        return f"layer {card.layer}"
    before = "stage 0 leaves" if card.quantizer == 1 else f"stages 0 to {card.quantizer - 1} leave"
    return f"the residual (stage {card.quantizer}) that {before} of layer {card.layer}"


def _numbers(card: CodebookCard) -> list[tuple[str, str]]:
    fit, use, bits = card.fitting, card.use, card.bitrate
    quantiles = card.distances.quantiles
    rows = [
        ("inertia per frame, frames fitted on, last iteration", _number(fit.inertia[-1] / max(1, fit.use.frames))),
        ("inertia per frame, frames described", _number(card.distances.mean_square)),
        (
            "explained variance",
            "none: the frames do not vary" if card.explained_variance is None else share(card.explained_variance),
        ),
        ("perplexity of the codes", f"{_number(use.perplexity)} of {card.num_clusters:,}"),
        ("entropy, share of log2 K", f"{_number(use.entropy_bits)} bits, {share(use.share_of_log_k)}"),
        ("empty clusters split while fitting", _split(fit.empty_clusters)),
        ("dead codes (no frame)", f"{use.dead:,}; {fit.use.dead:,} of the frames fitted on"),
        (f"rare codes (below {RARE:g} N / K)", f"{use.rare:,}; {fit.use.rare:,} of the frames fitted on"),
        ("most frequent code", f"{share(use.largest_share)} of the frames"),
        ("distance to the nearest centroid: median", _number(quantiles["0.5"])),
        ("5 % to 95 % of the frames", f"{_number(quantiles['0.05'])} to {_number(quantiles['0.95'])}"),
        ("bitrate, log2 K bits a token", f"{_number(bits.fixed)} bit/s, {_number(bits.tokens_per_second)} tokens/s"),
        ("bitrate, entropy of the codes", f"{_number(bits.entropy)} bit/s"),
    ]
    if card.runs is not None and bits.dedup_fixed is not None:
        rows += [
            ("mean run length", f"{_number(card.runs.mean_length)} frames"),
            ("tokens left without repetitions (dedup ratio)", share(card.runs.dedup_ratio)),
            (
                "bitrate without repetitions, log2 K",
                f"{_number(bits.dedup_fixed)} bit/s, {_number(bits.dedup_tokens_per_second)} tokens/s",
            ),
            ("bitrate without repetitions, entropy", f"{_number(bits.dedup_entropy)} bit/s"),
        ]
    return rows


def _split(empty: Sequence[int]) -> str:
    """Say in which iterations clusters were empty."""
    found = [f"{count:,} in iteration {number}" for number, count in enumerate(empty, start=1) if count]
    return ", ".join(found) if found else "none"


def _labels(card: CodebookCard) -> str:
    if not card.labels:
        return ""
    rows = [
        (
            name,
            f"{found.values:,}",
            f"{found.frames:,}",
            f"{found.nmi:.4f} ({found.nmi_drawn:.4f})",
            f"{share(found.share_of_label)} ({share(found.share_of_label_drawn)})",
        )
        for name, found in sorted(card.labels.items())
    ]
    return (
        "## Labels of utterances\n\n"
        "How much a frame's code tells about a label of its utterance. NMI is I(code; label) over the arithmetic mean "
        "of both entropies; the share is I(code; label) over the label's entropy. In brackets: the same for labels "
        "drawn at random for each utterance, which is what chance gives.\n\n"
        + table(("label", "values", "frames", "NMI (drawn)", "share of the label (drawn)"), rows)
    )


def _alignment(card: CodebookCard) -> str:
    found = card.alignment
    if found is None:
        return ""
    rows = [
        ("labels", f"{found.values:,}"),
        ("labelled frames", f"{found.frames:,}"),
        ("phone purity", share(found.phone_purity)),
        ("cluster purity", share(found.cluster_purity)),
        ("PNMI: I(code; label) / H(label)", f"{found.pnmi:.4f}"),
        ("NMI: over the mean of both entropies", f"{found.nmi:.4f}"),
    ]
    source = "The measures of HuBERT (arXiv 2106.07447); a frame has the label at the middle of its hop."
    return f"## Labels of frames\n\n{source}\n\n" + table(("measure", "value"), rows)


def _stability(card: CodebookCard) -> str:
    found = card.stability
    if found is None:
        return ""
    return (
        f"## Stability\n\nAgainst the codebook `{found.other_sha256[:12]}` (seed {found.other_seed}, "
        f"{found.other_num_clusters:,} clusters) on the same frames: codes matched one to one, "
        f"{share(found.matched_agreement)} of the frames agree; NMI {found.nmi:.4f}."
    )


def _limits(card: CodebookCard) -> list[str]:
    lines = [
        "All numbers hold for the frames described; another corpus gives others.",
        "Entropies and informations are plain estimates: with few frames a code, entropies are too low and mutual "
        "information, PNMI and purity too high, the more so for large K.",
        "Bitrates price a token by its frequency alone; a model of sequences needs fewer bits. Without repetitions, "
        "how long each token lasted is lost and not paid for.",
        "Quantiles of distances are at most 1.6 % too large.",
    ]
    if card.quantizer:
        lines.append(
            "Its frames are residuals: distances and explained variance are of what the stages before leave, and its "
            "bits come on top of theirs."
        )
    if card.described.sampled:
        lines.append(
            "A sample of frames has no neighbours: no run lengths, no dedup ratio, no bitrate without repetitions."
        )
    if not card.described.fitted_on_these:
        fitted_on = "those" if card.lineage.get("inputs") else "the one"
        lines.append(
            f"That the features are another dataset than {fitted_on} fitted on does not make their speakers, or even "
            "their recordings, others."
        )
    return lines


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
