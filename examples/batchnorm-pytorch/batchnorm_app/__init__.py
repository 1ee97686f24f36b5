"""Two rings told apart by a network with batch normalisation, whose statistics are averaged as well."""
