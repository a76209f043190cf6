"""What was collected, durably: tables, migrations, group commit."""
