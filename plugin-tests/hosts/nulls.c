/*
 * A careless host: NULL in every place, texts and bytes that are not what they say, one thing in the place of another.
 */

#include "strangers.h"

static void give_null_to_error_and_string(void)
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

static void give_null_to_driver(const octopus_driver *driver)
{
    octopus_text config = text("{\"embedded\":{}}"), name = text("nulls");
    octopus_component component = {.size = sizeof component};
    REFUSES(driver, create, config, NULL, NULL);
    REFUSES(driver, create_topic, NULL, name, NULL);
    REFUSES(driver, open_topic, NULL, name, &out.topic);
    REFUSES(driver, open_topic, driver, name, NULL);
    REFUSES(driver, delete_topic, NULL, name);
    REFUSES(driver, empty_topic, NULL, name);
    REFUSES(driver, topic_exists, NULL, name, &out.flag);
    REFUSES(driver, topic_exists, driver, name, NULL);
    REFUSES(driver, list_topics, NULL, &out.string);
    REFUSES(driver, list_topics, driver, NULL);
    REFUSES(driver, default_thread_pool, NULL, &out.pool);
    REFUSES(driver, default_thread_pool, driver, NULL);
    REFUSES(driver, register_component, NULL, OCTOPUS_ROLE_VALIDATOR, name, &component);
    REFUSES(driver, register_component, driver, OCTOPUS_ROLE_VALIDATOR, name, NULL);
    REFUSES(driver, describe, NULL, &out.string);
    REFUSES(driver, describe, driver, NULL);
    if (BUILT(driver, release))
        octopus->driver->release(NULL);
}

static void give_null_to_topic(const octopus_topic *topic)
{
    octopus_consumer_args args = {.size = sizeof args, .name = text("nulls")};
    REFUSES(topic, name, NULL, &out.text);
    REFUSES(topic, name, topic, NULL);
    REFUSES(topic, partition_count, NULL, &out.count);
    REFUSES(topic, partition_count, topic, NULL);
    REFUSES(topic, components, NULL, &out.text);
    REFUSES(topic, components, topic, NULL);
    REFUSES(topic, make_producer, NULL, NULL, &out.producer);
    REFUSES(topic, make_producer, topic, NULL, NULL);
    REFUSES(topic, make_consumer, NULL, &args, &out.consumer);
    REFUSES(topic, make_consumer, topic, NULL, &out.consumer);
    REFUSES(topic, make_consumer, topic, &args, NULL);
    if (BUILT(topic, release))
        octopus->topic->release(NULL);
}

static void give_null_to_producer(const octopus_producer *producer)
{
    uint64_t pushed; /* told also by a push_many that fails half-way, so not among `out` */
    octopus_push_args event = {.size = sizeof event};
    REFUSES(producer, push, NULL, &event, &out.future);
    REFUSES(producer, push, producer, NULL, &out.future);
    REFUSES(producer, push_many, NULL, &event, 1, out.futures, &pushed);
    REFUSES(producer, push_many, producer, NULL, 1, out.futures, &pushed);
    REFUSES(producer, push_many, producer, &event, 1, out.futures, NULL);
    REFUSES(producer, flush, NULL, &out.future);
    REFUSES(producer, max_event_size, NULL, &out.number);
    REFUSES(producer, max_event_size, producer, NULL);
    REFUSES(producer, close, NULL, 0);
    if (BUILT(producer, release))
        octopus->producer->release(NULL);
}

static void give_null_to_consumer(const octopus_consumer *consumer)
{
    octopus_processor processor = {.function = stop}, nothing = {.function = NULL};
    REFUSES(consumer, pull, NULL, &out.future);
    REFUSES(consumer, pull, consumer, NULL);
    REFUSES(consumer, pull_many, NULL, 1, 0, out.events, &out.number);
    REFUSES(consumer, pull_many, consumer, 1, 0, NULL, &out.number);
    REFUSES(consumer, pull_many, consumer, 1, 0, out.events, NULL);
    REFUSES(consumer, process, NULL, &processor, 0, 1, NULL);
    REFUSES(consumer, process, consumer, NULL, 0, 1, NULL);
    REFUSES(consumer, process, consumer, &nothing, 0, 1, NULL);
    REFUSES(consumer, commit, NULL, 0);
    REFUSES(consumer, position, NULL, 0, &out.number);
    REFUSES(consumer, position, consumer, 0, NULL);
    REFUSES(consumer, committed, NULL, 0, &out.number);
    REFUSES(consumer, committed, consumer, 0, NULL);
    REFUSES(consumer, lag, NULL, 0, &out.number);
    REFUSES(consumer, lag, consumer, 0, NULL);
    REFUSES(consumer, seek, NULL, 0, 0);
    REFUSES(consumer, assignment, NULL, out.array, 2, &out.number);
    REFUSES(consumer, assignment, consumer, NULL, 2, &out.number);
    REFUSES(consumer, assignment, consumer, out.array, 2, NULL);
    REFUSES(consumer, unsubscribe, NULL);
    REFUSES(consumer, close, NULL, 0);
    if (BUILT(consumer, release))
        octopus->consumer->release(NULL);
}

static void completed(void *context, octopus_future *future)
{
    (void)context, (void)future;
}

static void give_null_to_future_and_event(const struct scene *scene)
{
    octopus_completion completion = {.function = completed}, nothing = {.function = NULL};
    octopus_event_view view = {.size = sizeof view};
    REFUSES(future, wait, NULL, 0);
    REFUSES(future, test, NULL, &out.flag);
    REFUSES(future, test, scene->push, NULL);
    REFUSES(future, on_complete, NULL, &completion);
    REFUSES(future, on_complete, scene->push, NULL);
    REFUSES(future, on_complete, scene->push, &nothing);
    REFUSES(future, event_id, NULL, &out.number);
    REFUSES(future, event_id, scene->push, NULL);
    REFUSES(future, partition, NULL, &out.count);
    REFUSES(future, partition, scene->push, NULL);
    REFUSES(future, event, NULL, &out.event);
    REFUSES(future, event, scene->pull, NULL);
    if (BUILT(future, retain) && BUILT(future, release)) {
        octopus->future->retain(NULL);
        octopus->future->release(NULL);
    }
    REFUSES(event, view, NULL, &view);
    REFUSES(event, view, scene->event, NULL);
    REFUSES(event, acknowledge, NULL);
    if (BUILT(event, retain) && BUILT(event, release)) {
        octopus->event->retain(NULL);
        octopus->event->release(NULL);
    }
}

static void give_null_to_thread_pool(void)
{
    octopus_thread_pool *pool = NULL;
    octopus_task task = {.function = do_nothing}, nothing = {.function = NULL};
    octopus_pool_functions functions = {
        .size = sizeof functions, .submit = refuse_task, .pending = none, .thread_count = none};
    if (BUILT(thread_pool, create))
        SUCCEEDS(octopus->thread_pool->create(0, &pool, error));
    REFUSES(thread_pool, create, 0, NULL);
    REFUSES(thread_pool, from_host, NULL, &out.pool);
    REFUSES(thread_pool, from_host, &functions, NULL);
    REFUSES(thread_pool, submit, NULL, &task, 0);
    REFUSES(thread_pool, submit, pool, NULL, 0);
    REFUSES(thread_pool, submit, pool, &nothing, 0);
    REFUSES(thread_pool, pending, NULL, &out.number);
    REFUSES(thread_pool, pending, pool, NULL);
    REFUSES(thread_pool, thread_count, NULL, &out.number);
    REFUSES(thread_pool, thread_count, pool, NULL);
    if (BUILT(thread_pool, release)) {
        octopus->thread_pool->release(NULL);
        octopus->thread_pool->release(pool);
    }
}

static void give_null_everywhere(const struct scene *scene)
{
    give_null_to_error_and_string();
    give_null_to_driver(scene->driver);
    give_null_to_topic(scene->topic);
    give_null_to_producer(scene->producer);
    give_null_to_consumer(scene->consumer);
    give_null_to_future_and_event(scene);
    give_null_to_thread_pool();
#define CHECK_ALL_TRIED(noun) check_all_tried(#noun, octopus->noun, sizeof *octopus->noun)
    CHECK_ALL_TRIED(error);
    CHECK_ALL_TRIED(string);
    CHECK_ALL_TRIED(driver);
    CHECK_ALL_TRIED(topic);
    CHECK_ALL_TRIED(producer);
    CHECK_ALL_TRIED(consumer);
    CHECK_ALL_TRIED(future);
    CHECK_ALL_TRIED(event);
    CHECK_ALL_TRIED(thread_pool);
    printf("NULL in every place of every slot is refused, or does nothing\n");
}

static void give_wrong_texts(const struct scene *scene)
{
    const octopus_text wrong[] = {{NULL, 5}, {"\xff\xfe", 2}, {"\xc3", 1}, {"x", UINT64_MAX}, {"x", (uint64_t)1 << 63}};
    for (size_t at = 0; at < sizeof wrong / sizeof *wrong; at++) {
        octopus_text bad = wrong[at];
        REFUSES(driver, create, bad, NULL, &out.driver);
        REFUSES(driver, create_topic, scene->driver, bad, NULL);
        REFUSES(driver, open_topic, scene->driver, bad, &out.topic);
        REFUSES(driver, delete_topic, scene->driver, bad);
        REFUSES(driver, empty_topic, scene->driver, bad);
        REFUSES(driver, topic_exists, scene->driver, bad, &out.flag);
        octopus_component component = {.size = sizeof component};
        REFUSES(driver, register_component, scene->driver, OCTOPUS_ROLE_VALIDATOR, bad, &component);

        octopus_create_topic_args topics[4] = {
            {.options = bad}, {.validator = bad}, {.selector = bad}, {.serializer = bad}};
        for (int which = 0; which < 4; which++) {
            topics[which].size = sizeof *topics;
            REFUSES(driver, create_topic, scene->driver, text("wrong-texts"), &topics[which]);
        }
        octopus_producer_args producers[2] = {{.name = bad}, {.options = bad}};
        octopus_consumer_args consumers[2] = {{.name = bad}, {.name = text("wrong-texts"), .options = bad}};
        for (int which = 0; which < 2; which++) {
            producers[which].size = sizeof *producers;
            consumers[which].size = sizeof *consumers;
            REFUSES(topic, make_producer, scene->topic, &producers[which], &out.producer);
            REFUSES(topic, make_consumer, scene->topic, &consumers[which], &out.consumer);
        }
    }
    GIVES(OCTOPUS_INVALID_CONFIGURATION, octopus->driver->create((octopus_text){NULL, 0}, NULL, &out.driver, error));
    REFUSES(driver, open_topic, scene->driver, (octopus_text){NULL, 0}, &out.topic);
    REFUSES(driver, create_topic, scene->driver, text("no spaces, please"), NULL);
    GIVES(OCTOPUS_UNKNOWN_TOPIC, octopus->driver->open_topic(scene->driver, text("wrong-texts"), &out.topic, error));
    printf("texts that are NULL, not UTF-8 or larger than memory are refused\n");
}

static void push_wrong_events(const struct scene *scene)
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
        REFUSES(producer, push, scene->producer, &event, &out.future);
    }
    octopus_push_args event = {.size = sizeof event, .segments = overflowing, .segment_count = 3};
    GIVES(OCTOPUS_TOO_LARGE, octopus->producer->push(scene->producer, &event, &out.future, error));
    event = (octopus_push_args){.size = sizeof event, .metadata = bytes("{]")};
    GIVES(OCTOPUS_INVALID_METADATA, octopus->producer->push(scene->producer, &event, &out.future, error));
    event.metadata = bytes("\"\xff\"");
    GIVES(OCTOPUS_INVALID_METADATA, octopus->producer->push(scene->producer, &event, &out.future, error));

    char room[sizeof(octopus_push_args) + 8] = {0};
    octopus_push_args *askew = (void *)(room + (8 - (uintptr_t)room % 8) % 8 + 1);
    REFUSES(producer, push, scene->producer, askew, &out.future);
    printf("events whose bytes are not there are refused\n");
}

static void mistake_one_thing_for_another(const struct scene *scene)
{
    REFUSES(future, event, scene->push, &out.event);
    REFUSES(future, event, scene->flush, &out.event);
    REFUSES(future, event_id, scene->flush, &out.number);
    REFUSES(future, partition, scene->flush, &out.count);
    octopus_producer_args args = {.size = sizeof args, .ordering = 7};
    REFUSES(topic, make_producer, scene->topic, &args, &out.producer);
    octopus_consumer_args targets = {.size = sizeof targets, .name = text("targets"), .target_count = 1};
    REFUSES(topic, make_consumer, scene->topic, &targets, &out.consumer);
    octopus_consumer_args nameless = {.size = sizeof nameless};
    REFUSES(topic, make_consumer, scene->topic, &nameless, &out.consumer);
    GIVES(OCTOPUS_TOPIC_EXISTS, octopus->driver->create_topic(scene->driver, text("scene"), NULL, error));
    printf("futures of another kind, and values that are none, are refused\n");
}

static void give_what_is_none(void)
{
    struct scene scene = new_scene("scene", "data");
    give_null_everywhere(&scene);
    give_wrong_texts(&scene);
    push_wrong_events(&scene);
    mistake_one_thing_for_another(&scene);
    check_event(scene.event, "{}", "data");
    release_scene(&scene);
}

int main(int argc, char **argv)
{
    return run_all(argc, argv, give_what_is_none);
}
