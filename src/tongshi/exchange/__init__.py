"""Exchange of archives with neighbouring platforms: batches, full synchronisation, proof of equality."""
