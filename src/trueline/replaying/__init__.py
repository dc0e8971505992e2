"""`trueline replay`: the loop over a history that is already there, in minutes instead of months."""
