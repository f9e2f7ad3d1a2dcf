"""The subscriber: where an alert has its effect, exactly once. What effect is core/effects.py.

Effects outside the database (a webhook, a command) would go from the ledger, at least once, with
the alert's idempotency key; the promise of one effect ends at the ledger.
"""

from __future__ import annotations

from operators.core.effects import Outcome, Verdict, apply, close
from operators.outbox_input import Batch, Item, OutboxInput
from sda_pipeline.runtime.worker import Worker, check_not_behind
from sda_pipeline.state.alert_state import Action
from sda_pipeline.state.subscriber_store import FILE_NAME, SubscriberStore
from sda_pipeline.vocabulary import Effect, Step

IDLE_WAIT_S = 0.5


class _Loop:
    """One incarnation's loop state."""

    def __init__(self, worker: Worker, store: SubscriberStore) -> None:
        self.worker, self.store = worker, store
        self.input = OutboxInput(worker.only_input)
        self.duplicates = self.refused = 0

    def step(self) -> bool:
        """One batch, the three numbered steps of DESIGN 5. True when there was anything to do."""
        worker = self.worker
        # 1 read what is there, up to a bound; do not release it
        worker.beat(Step.READ)
        batch = self.input.read(self.store.position)
        if batch.end is None:
            return False
        worker.fail("after_read")
        # 2 one transaction: seen-set, current alert, action ledger, position
        worker.beat(Step.COMMIT)
        actions: list[Action] = []
        if batch.items:
            with self.store.transaction():
                for item in batch.items:
                    actions += self.take(item)
                worker.fail("inside_commit")
        worker.fail("after_commit")
        # 3 board, then release
        worker.board.set("sub_pos", self.store.position)
        worker.fail("after_board")
        worker.beat(Step.RELEASE)
        self.input.ring.release(batch.end)
        worker.fail("after_release")
        self.tell(batch, actions)
        return True

    def take(self, item: Item) -> list[Action]:
        """Store what one entry says and write down what it does. Inside the transaction."""
        store, position, change = self.store, item.entry.position, item.change
        actions = []
        if change is None:
            for alert_id, stored, body in store.open_before(item.closed_ns):
                outcome = close(stored, position, item.closed_ns)
                if outcome.effect is not None:
                    store.put(alert_id, outcome.stored, body)
                    actions.append(self.act(alert_id, outcome, outcome.effect, position, None))
        else:
            stored = store.stored(change.alert_id)
            outcome = apply(stored, change, store.newest_closes_ns)
            self.duplicates += outcome.verdict is Verdict.DUPLICATE
            self.refused += outcome.verdict is Verdict.REFUSED
            if outcome.verdict is Verdict.ACCEPTED:
                store.put(change.alert_id, outcome.stored, item.bodies[-1])
            if outcome.effect is not None:
                ingest = change.ingest_ns
                action = self.act(change.alert_id, outcome, outcome.effect, position, ingest)
                actions.append(action)
        store.position = position
        return actions

    def act(
        self, alert_id: str, outcome: Outcome, effect: Effect, position: int, ingest: int | None
    ) -> Action:
        """One line of the ledger."""
        new, now = outcome.stored, self.worker.clock.wall_ns()
        action = Action(alert_id, new.sequence, effect, new.level, new.final, position, now, ingest)
        self.store.act(action)
        return action

    def tell(self, batch: Batch, actions: list[Action]) -> None:
        """Log and count what the batch did."""
        self.duplicates += batch.known
        word = f"{self.worker.name}.events"
        self.worker.board.set(word, self.worker.board.get(word) + len(batch.items))
        for position in batch.horizons:
            self.worker.event("gap_accepted", position=position, why="the sink no longer holds it")
        for action in actions:
            if action.effect is not Effect.CONFIRM:
                self.worker.event(
                    "effect", alert_id=action.alert_id, effect=action.effect, level=action.level
                )


def run(worker: Worker) -> None:
    """Recover from the store, then apply alerts until drained."""
    worker.beat(Step.RECOVER)
    with SubscriberStore(worker.topology.subscriber / FILE_NAME) as store:
        worker.fail("recovery_open")
        worker.event("recovered", position=store.position, created=store.created)
        check_not_behind(worker, "sub_pos", store.position)
        worker.board.set("sub_pos", store.position)
        loop = _Loop(worker, store)
        worker.ready()
        while not worker.finished(loop.input.ring.empty):
            if not loop.step():
                worker.wait(IDLE_WAIT_S, [loop.input.ring.data_fd])
        worker.event("counts", duplicates=loop.duplicates, refused=loop.refused)
