"""Sources: populations fitted from catalogues, and the sources of a sky drawn from them."""
