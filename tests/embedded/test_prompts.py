"""The cache of prompts that were read."""

from __future__ import annotations

import numpy as np

from providers.embedded.prompts import PromptCache, PromptState


def state(*tokens: int) -> PromptState:
    """A prompt whose keys and values take 8 bytes a token and say which token they belong to."""
    kv = np.tile(np.array(tokens, np.float32), 2).reshape(1, 2, 1, len(tokens), 1)
    return PromptState(np.array(tokens, np.int64), kv, np.zeros(3, np.float32))


def test_the_least_recently_used_prompt_goes_first() -> None:
    cache = PromptCache(max_bytes=8 * 6)
    old, new = state(1, 2, 3), state(4, 5, 6)
    cache.add(old)
    cache.add(new)
    assert cache.exact(old.tokens) is old
    cache.add(state(7, 8))
    assert cache.exact(new.tokens) is None
    assert cache.exact(old.tokens) is old


def test_a_prompt_larger_than_the_cache_pushes_nothing_out() -> None:
    cache = PromptCache(max_bytes=8 * 3)
    kept, large = state(1, 2), state(1, 2, 3, 4)
    cache.add(kept)
    cache.add(large)
    cache.add(state(1, 2))
    assert cache.exact(large.tokens) is None
    assert cache.exact(kept.tokens) is kept


def test_the_longest_common_beginning_leaves_the_last_token_to_be_read() -> None:
    cache = PromptCache(max_bytes=10_000)
    for entry in (state(1, 2, 9), state(1, 2, 3, 4), state(5)):
        cache.add(entry)
    cases = {(1, 2, 3, 8, 8): 3, (1, 2, 3, 4): 3, (1, 2): 1, (6, 1): 0, (1, 2, 3, 4, 5): 4}
    for tokens, expected in cases.items():
        kv, length = cache.longest(np.array(tokens, np.int64))
        assert length == expected
        assert (kv is None) is (expected == 0)
        if kv is not None:
            assert kv[0, 0, 0, :length, 0].tolist() == list(tokens[:length])
