"""Brings the journal of one server to the predictions and labels tables, each record exactly once."""
