"""The desk's datasets: what they are, the one writer that changes them, and how a batch is made to fit."""
