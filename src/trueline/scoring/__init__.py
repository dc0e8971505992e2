"""Batch scoring: files in, files with predictions out, in bounded memory and with the answers a server would give."""
