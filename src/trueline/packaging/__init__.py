"""Fitted estimators as served artefacts: a folder any MLflow tool reads, and the executor that proved parity."""
