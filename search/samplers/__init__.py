"""The samplers that ship, one algorithm a module; `search.sampler` knows them by name."""
