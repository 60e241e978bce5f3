"""The catalogue of `visstoredatas`: records of data sets, their status, and what people say of them."""
