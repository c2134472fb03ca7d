"""What a party that keeps and studies everything it receives can find out: `python -m benchmarks.attacks`."""
