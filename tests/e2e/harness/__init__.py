"""What the end-to-end proofs stand on: real servers, a deterministic producer, an oracle, a proxy that breaks things."""
