"""Checkpoints: folders that are whole or not there, and hold everything that the next step depends on."""
