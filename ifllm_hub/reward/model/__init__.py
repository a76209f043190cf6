"""The reward model: an estimator, its flat form, its audited folder, and how users load it."""
