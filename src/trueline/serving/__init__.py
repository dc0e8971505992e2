"""The model server: one asyncio process that decodes, checks, routes, scores in batches, journals, and answers."""
