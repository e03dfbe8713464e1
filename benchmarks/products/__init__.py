"""Each layer's products in each arithmetic, against the machine's matrix product."""
