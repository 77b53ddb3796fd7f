"""Latents of a dataset: encoded once, kept, quantised class by class."""
