"""Training: what identifies a run, and executing one in a fresh process."""
