"""Raw files to text columns, block by block: encodings, layouts, nested documents, workbooks."""
