"""Kafka in and out: feature messages become predictions of the running model server."""
