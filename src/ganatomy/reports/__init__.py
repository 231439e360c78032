"""How results are shown: pictures, curves, tables, and the pages that hold them."""
