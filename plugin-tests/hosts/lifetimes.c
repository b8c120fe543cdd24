/*
 * A host that misuses the ABI: it uses handles after their close, releases handles in any order,
 * and releases one driver while another is in use.
 */

#include "abi_misuse.h"

static void use_after_close(void)
{
    struct fixture fixture = new_fixture("closed", "data");
    octopus_producer *producer = fixture.producer;
    octopus_consumer *consumer = fixture.consumer;
    octopus_push_args event = {.size = sizeof event};
    uint64_t pushed;

    SUCCEEDS(octopus->producer->close(producer, TIMEOUT_MS, error));
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, push, producer, &event, &out.future);
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, push, producer, &event, NULL);
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, push_many, producer, &event, 1, out.futures, &pushed);
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, flush, producer, &out.future);
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, flush, producer, NULL);
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, max_event_size, producer, &out.number);
    SLOT_RETURNS(OCTOPUS_CLOSED, producer, close, producer, 0);
    SUCCEEDS(octopus->future->wait(fixture.push, 0, error)); /* futures keep their results */
    SUCCEEDS(octopus->future->wait(fixture.flush, 0, error));

    octopus_future *unused;
    int32_t is_complete;
    SUCCEEDS(octopus->consumer->pull(consumer, &unused, error));
    SUCCEEDS(octopus->consumer->close(consumer, TIMEOUT_MS, error));
    octopus_processor processor = {.function = stop};
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, pull, consumer, &out.future);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, pull_many, consumer, 1, 0, out.events, &out.number);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, process, consumer, &processor, 0, 1, NULL);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, commit, consumer, 0);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, position, consumer, 0, &out.number);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, committed, consumer, 0, &out.number);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, lag, consumer, 0, &out.number);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, seek, consumer, 0, 0);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, assignment, consumer, out.array, 2, &out.number);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, unsubscribe, consumer);
    SLOT_RETURNS(OCTOPUS_CLOSED, consumer, close, consumer, 0);
    SLOT_RETURNS(OCTOPUS_CLOSED, future, wait, unused, -1);
    SUCCEEDS(octopus->future->test(unused, &is_complete, error));
    EXPECT(is_complete == 1);
    octopus->future->release(unused);
    SUCCEEDS(octopus->future->wait(fixture.pull, 0, error));
    check_event(fixture.event, "{}", "data");
    SLOT_RETURNS(OCTOPUS_STALE, event, acknowledge, fixture.event);
    release_fixture(&fixture);
    printf(
        "each slot of a closed handle returns OCTOPUS_CLOSED; events that were pulled before stay valid\n");
}

/* Handles that are not released yet work. */
static void use_remaining(const struct fixture *fixture)
{
    octopus_string *json;
    octopus_text name;
    octopus_event *event;
    uint64_t number;
    if (fixture->driver) {
        SUCCEEDS(octopus->driver->describe(fixture->driver, &json, error));
        EXPECT(octopus->string->view(json).size > 2);
        octopus->string->release(json);
    }
    if (fixture->topic) {
        SUCCEEDS(octopus->topic->name(fixture->topic, &name, error));
        EXPECT(is("orders", name.data, name.size));
    }
    if (fixture->producer)
        octopus->future->release(push(fixture->producer, fixture->data));
    if (fixture->push) {
        SUCCEEDS(octopus->future->event_id(fixture->push, &number, error));
        EXPECT(number == 0);
    }
    if (fixture->flush)
        SUCCEEDS(octopus->future->wait(fixture->flush, INT64_MIN, error));
    if (fixture->consumer) {
        octopus_future *pending;
        SUCCEEDS(octopus->consumer->pull(fixture->consumer, &pending, error));
        /* An event was pushed above. The wait takes half a second, so it is done in some steps
         * only. */
        if (fixture->producer && !fixture->topic && !fixture->driver)
            SUCCEEDS(octopus->future->wait(pending, TIMEOUT_MS, error));
        octopus->future->release(pending);
    }
    if (fixture->pull) {
        SUCCEEDS(octopus->future->event(fixture->pull, &event, error));
        check_event(event, "{}", fixture->data);
        octopus->event->release(event);
    }
    if (fixture->event)
        check_event(fixture->event, "{}", fixture->data);
}

static void release_in_any_order(void)
{
    for (int first = 0; first < KINDS; first++) {
        struct fixture fixture = new_fixture("orders", "data");
        octopus->event->retain(fixture.event);
        octopus->event->release(fixture.event);
        octopus->future->retain(fixture.push);
        octopus->future->release(fixture.push);
        int step = 2 * first + 1; /* odd, hence coprime to KINDS: each kind is released once */
        for (int count = 0; count < KINDS; count++) {
            use_remaining(&fixture);
            release_kind(&fixture, (first + count * step) % KINDS);
        }
    }
    printf("handles can be released in any order, and the remaining ones work\n");
}

static void run_two_drivers(void)
{
    int32_t exists;
    octopus_topic *topic;
    struct fixture one = new_fixture("twins", "data of one"),
                   other = new_fixture("twins", "data of the other");
    check_event(one.event, "{}", "data of one");
    check_event(other.event, "{}", "data of the other");

    SUCCEEDS(octopus->driver->create_topic(one.driver, text("only-one"), NULL, error));
    SUCCEEDS(octopus->driver->topic_exists(one.driver, text("only-one"), &exists, error));
    EXPECT(exists == 1);
    SUCCEEDS(octopus->driver->topic_exists(other.driver, text("only-one"), &exists, error));
    EXPECT(exists == 0);
    RETURNS(OCTOPUS_UNKNOWN_TOPIC,
            octopus->driver->open_topic(other.driver, text("only-one"), &out.topic, error));

    release_fixture(&one);
    octopus->future->release(push(other.producer, "more data"));
    octopus_future *pending = pull(other.consumer);
    octopus_event *event = event_of(pending);
    check_event(event, "{}", "more data");
    octopus->event->release(event);
    octopus->future->release(pending);
    SUCCEEDS(octopus->driver->open_topic(other.driver, text("twins"), &topic, error));
    octopus->topic->release(topic);
    release_fixture(&other);
    printf("two drivers are independent, and one outlives the other\n");
}

static void check_lifetimes(void)
{
    use_after_close();
    release_in_any_order();
    run_two_drivers();
}

int main(int argc, char **argv) { return run_all(argc, argv, check_lifetimes); }
