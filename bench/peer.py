"""What the peers of this folder share: when steps began and ended, and how many real tokens went into them."""
import time

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """When each optimizer step began and ended."""

    def __init__(self):
        self.begins, self.ends = [], []

    def on_step_begin(self, *_, **__):
        self.begins.append(time.time())

    def on_step_end(self, *_, **__):
        self.ends.append(time.time())


class CountingCollator:
    """Has a batch collated, and keeps how many rows and real tokens it has. Batches are collated in the order of the steps."""

    def __init__(self, collate):
        self.collate, self.pairs, self.tokens = collate, [], []

    def __call__(self, rows):
        batch = self.collate(rows)
        self.pairs.append(len(rows))
        self.tokens.append(int(batch["attention_mask"].sum()))
        return batch


def steady_rates(clock, collator, skip):
    """Rows and useful tokens a second after the first `skip` steps."""
    steps = len(clock.ends)
    if steps <= skip:
        raise SystemExit(f"{steps} steps, expected more than --skip {skip}")
    seconds = clock.ends[-1] - clock.ends[skip - 1] if skip else clock.ends[-1] - clock.begins[0]
    return {"pairs_per_second": sum(collator.pairs[skip:steps]) / seconds,
            "tokens_per_second": sum(collator.tokens[skip:steps]) / seconds, "steps": steps, "first_step_at": clock.begins[0]}
