"""What `trueline doctor` looks at: small functions that look, change nothing, and say what to do."""
