"""Search over topologies: its floor of the house is laid, spaces and samplers are still to come."""
