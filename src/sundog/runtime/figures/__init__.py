"""What a run did and where it stands, as numbers."""
