"""Speed of collection against peers, on simulated invoices, with servers of our own on the same machine."""
