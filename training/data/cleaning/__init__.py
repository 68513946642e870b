"""Text columns to typed columns: a source's conventions, rules that refuse a row, flags on rows that stay."""
