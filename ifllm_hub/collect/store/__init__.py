"""The durable store of what was collected: tables, migrations, group commit."""
