"""The first schema."""

from alembic import op

from trueline.store.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything. Until the first release this migration follows `tables.py`; after it, it is frozen."""
    metadata.create_all(op.get_bind())
