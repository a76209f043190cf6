"""Judgments -> estimates with intervals, tables, figures, and a checkpoint's card."""
