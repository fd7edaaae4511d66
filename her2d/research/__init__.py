"""Networks, training and evaluation. Needs torch; the daemon never imports it."""
