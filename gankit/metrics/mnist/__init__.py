"""Metrics of generated digits, in the features of a classifier that comes with gankit."""
