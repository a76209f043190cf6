"""What pages are made of: tables in Markdown, figures in one look, templates."""
