"""The pages: rendered here, live by server-sent events, and read only."""
