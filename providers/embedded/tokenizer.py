"""The tokenizer of an embedded model and its chat format, with special tokens that content cannot forge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from db.errors import ConfigError
from providers.base import Message
from providers.errors import BadRequest

__all__ = ["ChatTokenizer"]

_END = "<|end|>"
_ROLES = ("system", "user", "assistant")
_CURE = "reinstall colonnade, or copy the model folder anew"


class ChatTokenizer:
    """Byte-level BPE read from `tokenizer.json`, and the chat format of the embedded models.

    A message is `<|role|>`, its content, `<|end|>`; generation starts after `<|assistant|>`. Raises `ConfigError`
    where the file is missing, corrupted, or lacks one of the special tokens or of the 256 bytes.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"'{path}' cannot be read ({error.strerror}): {_CURE}.") from error
        except Exception as error:  # the library raises bare Exception for what it cannot parse
            raise ConfigError(f"'{path}' is corrupted ({error}): {_CURE}.") from error
        # Text such as "<|end|>" in a message is then read as characters, never as the token.
        self._tokenizer.encode_special_tokens = True
        self.end = self._special(path, _END)
        self._roles = {role: self._special(path, f"<|{role}|>") for role in _ROLES}
        self.token_bytes = self._byte_table(path)

    def encode_chat(self, messages: Sequence[Message], *, continue_final: bool = False) -> list[int]:
        """Return the token ids of a conversation; with `continue_final` its last message stays open.

        Raises `BadRequest` for an empty conversation, an unknown role, or a last message to be continued that is
        not the assistant's.
        """
        if not messages:
            raise BadRequest("a request to an embedded model needs at least one message.")
        if continue_final and messages[-1].role != "assistant":
            raise BadRequest(f"only an assistant's message can be continued, not one of role '{messages[-1].role}'.")
        ids: list[int] = []
        for message in messages:
            role = self._roles.get(message.role)
            if role is None:
                raise BadRequest(f"unknown role '{message.role}'; known: {', '.join(_ROLES)}.")
            ids.append(role)
            ids += self._tokenizer.encode(message.content, add_special_tokens=False).ids
            ids.append(self.end)
        if continue_final:
            ids.pop()
        else:
            ids.append(self._roles["assistant"])
        return ids

    def text(self, token: int) -> str:
        """Return a token as text; an incomplete UTF-8 sequence becomes U+FFFD, a special token its name.

        A model's vocabulary may be padded beyond the tokenizer's; such a token is an empty text.
        """
        data = self.token_bytes[token] if token < self.vocab else b""
        return data.decode(errors="replace") or self._tokenizer.id_to_token(token) or ""

    def single(self, text: str) -> int | None:
        """Return the id of a text that is one token, else None."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids[0] if len(ids) == 1 else None

    @property
    def vocab(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.token_bytes)

    def _special(self, path: Path, name: str) -> int:
        token = self._tokenizer.token_to_id(name)
        if token is None:
            raise ConfigError(f"'{path}' has no token '{name}', which the chat format needs: {_CURE}.")
        return token

    def _byte_table(self, path: Path) -> tuple[bytes, ...]:
        """Bytes of every token by id; special tokens give none, so generated ones never show in a text."""
        added = self._tokenizer.get_added_tokens_decoder()
        characters = _byte_characters()
        table: list[bytes] = []
        for token in range(self._tokenizer.get_vocab_size(with_added_tokens=True)):
            name = "" if token in added else self._tokenizer.id_to_token(token) or ""
            try:
                table.append(bytes(characters[character] for character in name))
            except KeyError as error:
                raise ConfigError(f"'{path}' is no byte-level vocabulary (token {name!r}): {_CURE}.") from error
        if lacking := 256 - len({entry for entry in table if len(entry) == 1}):
            raise ConfigError(f"'{path}' lacks {lacking} of the 256 single-byte tokens: {_CURE}.")
        return tuple(table)


def _byte_characters() -> dict[str, int]:
    """Map the printable stand-ins of byte-level BPE (GPT-2) to bytes: itself if printable, else 256 and upward."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
