"""The prediction journal: the record codec and segment files. Serving writes; the shipper and the worker read."""
