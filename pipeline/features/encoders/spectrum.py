"""The clock of log-mel input: numbers that both the description of an encoder and its spectra need, without torch."""

SPECTRUM_WINDOW, SPECTRUM_HOP = 400, 160
"""Samples that one spectrum hears, and samples from one spectrum to the next."""
