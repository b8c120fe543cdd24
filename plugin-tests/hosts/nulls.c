/*
 * A host that misuses the ABI: it passes NULL for every argument, invalid texts and bytes, and
 * handles of the wrong kind.
 */

#include "abi_misuse.h"

static void pass_null_to_error_and_string(void)
{
    EXPECT(BUILT(error, code) && octopus->error->code(NULL) == OCTOPUS_OK);
    EXPECT(BUILT(error, kafka_code) && octopus->error->kafka_code(NULL) == 0);
    EXPECT(BUILT(error, retriable) && octopus->error->retriable(NULL) == 0);
    EXPECT(BUILT(error, persisted) && octopus->error->persisted(NULL) == OCTOPUS_PERSISTED_NO);
    EXPECT(BUILT(error, skipped) && octopus->error->skipped(NULL, NULL, NULL, NULL) == 0);
    EXPECT(BUILT(error, message) && octopus->error->message(NULL).size == 0);
    EXPECT(BUILT(error, release));
    octopus->error->release(NULL);
    EXPECT(BUILT(string, view) && octopus->string->view(NULL).size == 0);
    EXPECT(BUILT(string, release));
    octopus->string->release(NULL);
}

static void pass_null_to_driver(const octopus_driver *driver)
{
    octopus_text config = text("{\"embedded\":{}}"), name = text("nulls");
    octopus_component component = {.size = sizeof component};
    REJECTS(driver, create, config, NULL, NULL);
    REJECTS(driver, create_topic, NULL, name, NULL);
    REJECTS(driver, open_topic, NULL, name, &out.topic);
    REJECTS(driver, open_topic, driver, name, NULL);
    REJECTS(driver, delete_topic, NULL, name);
    REJECTS(driver, empty_topic, NULL, name);
    REJECTS(driver, topic_exists, NULL, name, &out.flag);
    REJECTS(driver, topic_exists, driver, name, NULL);
    REJECTS(driver, list_topics, NULL, &out.string);
    REJECTS(driver, list_topics, driver, NULL);
    REJECTS(driver, default_thread_pool, NULL, &out.pool);
    REJECTS(driver, default_thread_pool, driver, NULL);
    REJECTS(driver, register_component, NULL, OCTOPUS_ROLE_VALIDATOR, name, &component);
    REJECTS(driver, register_component, driver, OCTOPUS_ROLE_VALIDATOR, name, NULL);
    REJECTS(driver, describe, NULL, &out.string);
    REJECTS(driver, describe, driver, NULL);
    octopus_stats stats = {.size = sizeof stats};
    REJECTS(driver, stats, NULL, &stats);
    REJECTS(driver, stats, driver, NULL);
    REJECTS(driver, stats_json, NULL, &out.string);
    REJECTS(driver, stats_json, driver, NULL);
    if (BUILT(driver, release))
        octopus->driver->release(NULL);
}

static void pass_null_to_topic(const octopus_topic *topic)
{
    octopus_consumer_args args = {.size = sizeof args, .name = text("nulls")};
    REJECTS(topic, name, NULL, &out.text);
    REJECTS(topic, name, topic, NULL);
    REJECTS(topic, partition_count, NULL, &out.count);
    REJECTS(topic, partition_count, topic, NULL);
    REJECTS(topic, components, NULL, &out.text);
    REJECTS(topic, components, topic, NULL);
    REJECTS(topic, make_producer, NULL, NULL, &out.producer);
    REJECTS(topic, make_producer, topic, NULL, NULL);
    REJECTS(topic, make_consumer, NULL, &args, &out.consumer);
    REJECTS(topic, make_consumer, topic, NULL, &out.consumer);
    REJECTS(topic, make_consumer, topic, &args, NULL);
    if (BUILT(topic, release))
        octopus->topic->release(NULL);
}

static void pass_null_to_producer(const octopus_producer *producer)
{
    uint64_t pushed; /* not in `out`: push_many sets it even when it fails half-way */
    octopus_push_args event = {.size = sizeof event};
    REJECTS(producer, push, NULL, &event, &out.future);
    REJECTS(producer, push, producer, NULL, &out.future);
    REJECTS(producer, push_many, NULL, &event, 1, out.futures, &pushed);
    REJECTS(producer, push_many, producer, NULL, 1, out.futures, &pushed);
    REJECTS(producer, push_many, producer, &event, 1, out.futures, NULL);
    REJECTS(producer, flush, NULL, &out.future);
    REJECTS(producer, max_event_size, NULL, &out.number);
    REJECTS(producer, max_event_size, producer, NULL);
    REJECTS(producer, record_format, NULL, &out.count);
    REJECTS(producer, record_format, producer, NULL);
    REJECTS(producer, begin_transaction, NULL, NULL, 0);
    REJECTS(producer, begin_transaction, producer, NULL, 1);
    REJECTS(producer, commit_transaction, NULL, 0);
    REJECTS(producer, abort_transaction, NULL, 0);
    REJECTS(producer, close, NULL, 0);
    if (BUILT(producer, release))
        octopus->producer->release(NULL);
}

static void pass_null_to_consumer(const octopus_consumer *consumer)
{
    octopus_processor processor = {.function = stop}, nothing = {.function = NULL};
    REJECTS(consumer, pull, NULL, &out.future);
    REJECTS(consumer, pull, consumer, NULL);
    REJECTS(consumer, pull_many, NULL, 1, 0, out.events, &out.number);
    REJECTS(consumer, pull_many, consumer, 1, 0, NULL, &out.number);
    REJECTS(consumer, pull_many, consumer, 1, 0, out.events, NULL);
    REJECTS(consumer, process, NULL, &processor, 0, 1, NULL);
    REJECTS(consumer, process, consumer, NULL, 0, 1, NULL);
    REJECTS(consumer, process, consumer, &nothing, 0, 1, NULL);
    REJECTS(consumer, commit, NULL, 0);
    REJECTS(consumer, position, NULL, 0, &out.number);
    REJECTS(consumer, position, consumer, 0, NULL);
    REJECTS(consumer, committed, NULL, 0, &out.number);
    REJECTS(consumer, committed, consumer, 0, NULL);
    REJECTS(consumer, lag, NULL, 0, &out.number);
    REJECTS(consumer, lag, consumer, 0, NULL);
    REJECTS(consumer, seek, NULL, 0, 0);
    REJECTS(consumer, assignment, NULL, out.array, 2, &out.number);
    REJECTS(consumer, assignment, consumer, NULL, 2, &out.number);
    REJECTS(consumer, assignment, consumer, out.array, 2, NULL);
    REJECTS(consumer, unsubscribe, NULL);
    REJECTS(consumer, close, NULL, 0);
    if (BUILT(consumer, release))
        octopus->consumer->release(NULL);
}

static void completed(void *context, octopus_future *future) { (void)context, (void)future; }

static void pass_null_to_future_and_event(const struct fixture *fixture)
{
    octopus_completion completion = {.function = completed}, nothing = {.function = NULL};
    octopus_event_view view = {.size = sizeof view};
    octopus_event_attributes attributes = {.size = sizeof attributes};
    octopus_header header;
    REJECTS(future, wait, NULL, 0);
    REJECTS(future, test, NULL, &out.flag);
    REJECTS(future, test, fixture->push, NULL);
    REJECTS(future, on_complete, NULL, &completion);
    REJECTS(future, on_complete, fixture->push, NULL);
    REJECTS(future, on_complete, fixture->push, &nothing);
    REJECTS(future, event_id, NULL, &out.number);
    REJECTS(future, event_id, fixture->push, NULL);
    REJECTS(future, partition, NULL, &out.count);
    REJECTS(future, partition, fixture->push, NULL);
    REJECTS(future, event, NULL, &out.event);
    REJECTS(future, event, fixture->pull, NULL);
    if (BUILT(future, retain) && BUILT(future, release)) {
        octopus->future->retain(NULL);
        octopus->future->release(NULL);
    }
    REJECTS(event, view, NULL, &view);
    REJECTS(event, view, fixture->event, NULL);
    REJECTS(event, acknowledge, NULL);
    REJECTS(event, attributes, NULL, &attributes);
    REJECTS(event, attributes, fixture->event, NULL);
    REJECTS(event, header, NULL, 0, &header);
    REJECTS(event, header, fixture->event, 0, NULL);
    if (BUILT(event, retain) && BUILT(event, release)) {
        octopus->event->retain(NULL);
        octopus->event->release(NULL);
    }
}

static void pass_null_to_thread_pool(void)
{
    octopus_thread_pool *pool = NULL;
    octopus_task task = {.function = do_nothing}, nothing = {.function = NULL};
    octopus_pool_functions functions = {.size = sizeof functions,
                                        .submit = reject_task,
                                        .pending = return_zero,
                                        .thread_count = return_zero};
    if (BUILT(thread_pool, create))
        SUCCEEDS(octopus->thread_pool->create(0, &pool, error));
    REJECTS(thread_pool, create, 0, NULL);
    REJECTS(thread_pool, from_host, NULL, &out.pool);
    REJECTS(thread_pool, from_host, &functions, NULL);
    REJECTS(thread_pool, submit, NULL, &task, 0);
    REJECTS(thread_pool, submit, pool, NULL, 0);
    REJECTS(thread_pool, submit, pool, &nothing, 0);
    REJECTS(thread_pool, pending, NULL, &out.number);
    REJECTS(thread_pool, pending, pool, NULL);
    REJECTS(thread_pool, thread_count, NULL, &out.number);
    REJECTS(thread_pool, thread_count, pool, NULL);
    if (BUILT(thread_pool, release)) {
        octopus->thread_pool->release(NULL);
        octopus->thread_pool->release(pool);
    }
}

static void pass_null_everywhere(const struct fixture *fixture)
{
    pass_null_to_error_and_string();
    pass_null_to_driver(fixture->driver);
    pass_null_to_topic(fixture->topic);
    pass_null_to_producer(fixture->producer);
    pass_null_to_consumer(fixture->consumer);
    pass_null_to_future_and_event(fixture);
    pass_null_to_thread_pool();
#define CHECK_ALL_TESTED(noun) check_all_tested(#noun, octopus->noun, sizeof *octopus->noun)
    CHECK_ALL_TESTED(error);
    CHECK_ALL_TESTED(string);
    CHECK_ALL_TESTED(driver);
    CHECK_ALL_TESTED(topic);
    CHECK_ALL_TESTED(producer);
    CHECK_ALL_TESTED(consumer);
    CHECK_ALL_TESTED(future);
    CHECK_ALL_TESTED(event);
    CHECK_ALL_TESTED(thread_pool);
    printf("NULL for any argument of any slot is rejected, or does nothing\n");
}

static void pass_invalid_texts(const struct fixture *fixture)
{
    const octopus_text wrong[] = {
        {NULL, 5}, {"\xff\xfe", 2}, {"\xc3", 1}, {"x", UINT64_MAX}, {"x", (uint64_t)1 << 63}};
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        octopus_text bad = wrong[at];
        REJECTS(driver, create, bad, NULL, &out.driver);
        REJECTS(driver, create_topic, fixture->driver, bad, NULL);
        REJECTS(driver, open_topic, fixture->driver, bad, &out.topic);
        REJECTS(driver, delete_topic, fixture->driver, bad);
        REJECTS(driver, empty_topic, fixture->driver, bad);
        REJECTS(driver, topic_exists, fixture->driver, bad, &out.flag);
        octopus_component component = {.size = sizeof component};
        REJECTS(driver, register_component, fixture->driver, OCTOPUS_ROLE_VALIDATOR, bad,
                &component);

        octopus_create_topic_args topics[4] = {
            {.options = bad}, {.validator = bad}, {.selector = bad}, {.serializer = bad}};
        for (int which = 0; which < 4; which++) {
            topics[which].size = sizeof *topics;
            REJECTS(driver, create_topic, fixture->driver, text("wrong-texts"), &topics[which]);
        }
        octopus_producer_args producers[2] = {{.name = bad}, {.options = bad}};
        octopus_consumer_args consumers[2] = {{.name = bad},
                                              {.name = text("wrong-texts"), .options = bad}};
        for (int which = 0; which < 2; which++) {
            producers[which].size = sizeof *producers;
            consumers[which].size = sizeof *consumers;
            REJECTS(topic, make_producer, fixture->topic, &producers[which], &out.producer);
            REJECTS(topic, make_consumer, fixture->topic, &consumers[which], &out.consumer);
        }
    }
    RETURNS(OCTOPUS_INVALID_CONFIGURATION,
            octopus->driver->create((octopus_text){NULL, 0}, NULL, &out.driver, error));
    REJECTS(driver, open_topic, fixture->driver, (octopus_text){NULL, 0}, &out.topic);
    REJECTS(driver, create_topic, fixture->driver, text("no spaces, please"), NULL);
    RETURNS(OCTOPUS_UNKNOWN_TOPIC,
            octopus->driver->open_topic(fixture->driver, text("wrong-texts"), &out.topic, error));
    printf("texts that are NULL, not UTF-8 or larger than memory are rejected\n");
}

static void push_invalid_events(const struct fixture *fixture)
{
    const uint8_t byte = 0;
    const octopus_bytes nothing = {NULL, 5}, huge = {&byte, UINT64_MAX}, large = {&byte, INT64_MAX};
    const octopus_bytes overflowing[] = {large, large, large};
    const octopus_push_args events[] = {
        {.metadata = nothing},
        {.metadata = huge},
        {.segments = NULL, .segment_count = 1},
        {.segments = &nothing, .segment_count = 1},
        {.segments = &huge, .segment_count = 1},
        {.segments = &large, .segment_count = UINT64_MAX},
        {.segments = &large, .segment_count = (uint64_t)1 << 60},
    };
    for (size_t at = 0; at < sizeof events / sizeof *events; at++) {
        octopus_push_args event = events[at];
        event.size = sizeof event;
        REJECTS(producer, push, fixture->producer, &event, &out.future);
    }
    octopus_push_args event = {.size = sizeof event, .segments = overflowing, .segment_count = 3};
    RETURNS(OCTOPUS_TOO_LARGE,
            octopus->producer->push(fixture->producer, &event, &out.future, error));
    event = (octopus_push_args){.size = sizeof event, .metadata = bytes("{]")};
    RETURNS(OCTOPUS_INVALID_METADATA,
            octopus->producer->push(fixture->producer, &event, &out.future, error));
    event.metadata = bytes("\"\xff\"");
    RETURNS(OCTOPUS_INVALID_METADATA,
            octopus->producer->push(fixture->producer, &event, &out.future, error));

    char space[sizeof(octopus_push_args) + 8] = {0};
    octopus_push_args *misaligned = (void *)(space + (8 - (uintptr_t)space % 8) % 8 + 1);
    REJECTS(producer, push, fixture->producer, misaligned, &out.future);
    printf("events with invalid pointers or sizes are rejected\n");
}

static void pass_wrong_kinds(const struct fixture *fixture)
{
    REJECTS(future, event, fixture->push, &out.event);
    REJECTS(future, event, fixture->flush, &out.event);
    REJECTS(future, event_id, fixture->flush, &out.number);
    REJECTS(future, partition, fixture->flush, &out.count);
    octopus_producer_args args = {.size = sizeof args, .ordering = 7};
    REJECTS(topic, make_producer, fixture->topic, &args, &out.producer);
    octopus_consumer_args targets = {
        .size = sizeof targets, .name = text("targets"), .target_count = 1};
    REJECTS(topic, make_consumer, fixture->topic, &targets, &out.consumer);
    octopus_consumer_args nameless = {.size = sizeof nameless};
    REJECTS(topic, make_consumer, fixture->topic, &nameless, &out.consumer);
    RETURNS(OCTOPUS_TOPIC_EXISTS,
            octopus->driver->create_topic(fixture->driver, text("fixture"), NULL, error));
    printf("futures of another kind and invalid values are rejected\n");
}

static void pass_invalid_arguments(void)
{
    struct fixture fixture = new_fixture("fixture", "data");
    pass_null_everywhere(&fixture);
    pass_invalid_texts(&fixture);
    push_invalid_events(&fixture);
    pass_wrong_kinds(&fixture);
    check_event(fixture.event, "{}", "data");
    release_fixture(&fixture);
}

int main(int argc, char **argv) { return run_all(argc, argv, pass_invalid_arguments); }
