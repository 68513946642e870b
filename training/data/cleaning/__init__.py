"""Text columns to typed columns: conventions of a source, rules that refuse a row, flags on rows that stay."""
