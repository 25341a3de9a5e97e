"""What an SAE's files tell of it beside its weights, in the words of the study's config."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

#: What files can tell of the activations that an SAE was trained on.
TOPICS = {
    "hook": "name of the place in the model, as the file's library has it",
    "layer": "number of the block that the place lies in",
    "head": "number of the one attention head that was read",
    "model": "name of the model",
    "revision": "commit, branch or tag of the model",
    "center_writing_weights": "whether what is written to the residual stream was centred",
    "fold_value_biases": "whether heads were read without the bias of their values",
    "dtype": "precision in which the model ran",
    "context": "tokens in a sequence",
    "prepend_bos": "whether each sequence began with BOS",
    "positions": "first position in a sequence, and the one after the last, null for none",
}


@dataclass(frozen=True)
class Said:
    """One value, as a file has it, and where: ``saes/768/cfg.json: metadata.hook_name``."""

    value: Any
    where: str


@dataclass
class Told:
    """All that the files of one SAE tell.

    Attributes
    ----------
    said
        By topic, a key of `TOPICS`; what is not told is missing.
    strange
        Settings that are not understood.
    """

    said: dict[str, Said] = field(default_factory=dict)
    strange: list[Said] = field(default_factory=list)

    def tell(self, topic: str, value: Any, where: str) -> None:
        """Take down what a file says of `topic`; null says nothing."""
        assert topic in TOPICS
        if value is not None:
            self.said[topic] = Said(value, where)

    def tell_number(self, topic: str, value: Any, where: str) -> None:
        """Take down a whole number, zero or more; anything else is not understood."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None or (type(value) is int and value >= 0):
            self.tell(topic, value, where)
        else:
            self.strange.append(Said(value, where))

    def know(self, values: Mapping[str, Any], where: str, known: Collection[str]) -> None:
        """Take down settings under other keys than `known` as not understood.

        Those that are null, false or empty turn nothing on.
        """
        for key, value in values.items():
            if key not in known and value not in (None, False, "", [], {}):
                self.strange.append(Said(value, f"{where}{key}"))
