"""Transactions: events and positions are stored together or not at all."""

import unittest

import diaspora_octopus as octopus
from diaspora_octopus import Status

from .support import IS_REAL_KAFKA, TIMEOUT, new_name, new_topic, reader


@unittest.skipUnless(IS_REAL_KAFKA, "the embedded Kafka has no transactions")
class Transactions(unittest.TestCase):
    def setUp(self):
        self.input, self.output = new_topic(), new_topic()
        with self.input.producer() as producer:
            producer.push_many([(number,) for number in range(4)])
        self.id = new_name("id")
        self.producer = self.new_producer()
        self.consumer = self.input.consumer(new_name("group"), commits="transaction")
        self.addCleanup(self.consumer.close, TIMEOUT)

    def new_producer(self):
        return self.output.producer(transactional_id=self.id)

    def read(self, count):
        events = []
        while len(events) < count:
            events += self.consumer.pull_many(count - len(events), TIMEOUT)
        return events

    def forward(self, events):
        for event in events:
            self.producer.push(event.metadata)
            event.acknowledge()

    def stored(self):
        with reader(self.output) as consumer:
            return [event.metadata for event in consumer.events(timeout=2)]

    def test_block_is_committed(self):
        for _ in range(2):
            events = self.read(2)
            with self.producer.transaction(self.consumer):
                self.forward(events)
        self.assertEqual(self.stored(), [0, 1, 2, 3])
        self.assertEqual(self.consumer.committed(0), 4)

    def test_block_that_raises_is_aborted_and_read_again(self):
        with self.assertRaises(ZeroDivisionError), self.producer.transaction(self.consumer):
            self.forward(self.read(3))
            self.producer.flush(TIMEOUT)
            print(1 / 0)
        self.assertEqual([event.metadata for event in self.read(4)], [0, 1, 2, 3])
        self.assertEqual((self.stored(), self.consumer.committed(0)), ([], None))

    def test_transaction_that_must_be_aborted_is_aborted(self):
        stale = self.read(1)
        self.producer.begin_transaction(self.consumer)
        self.producer.abort_transaction(TIMEOUT)
        with self.assertRaises(octopus.Error) as raised, self.producer.transaction(self.consumer):
            self.producer.push(0)
            with self.assertRaises(octopus.Error):
                stale[0].acknowledge()
        self.assertIs(raised.exception.status, Status.MUST_ABORT)
        events = self.read(4)
        with self.producer.transaction(self.consumer):
            self.forward(events)
        self.assertEqual(self.stored(), [0, 1, 2, 3])

    def test_older_producer_is_fenced(self):
        newer = self.new_producer()
        with self.assertRaises(octopus.Error) as raised, self.producer.transaction():
            self.producer.push(0)
        self.assertIs(raised.exception.status, Status.FENCED)
        with newer.transaction():
            newer.push(1)
        self.assertEqual(self.stored(), [1])

    def test_push_needs_a_transaction(self):
        with self.assertRaises(octopus.Error) as raised:
            self.producer.push(0)
        self.assertIs(raised.exception.status, Status.INVALID_ARGUMENT)
        with self.assertRaisesRegex(TypeError, "expected consumers, got int"):
            self.producer.begin_transaction(3)


if __name__ == "__main__":
    unittest.main()
