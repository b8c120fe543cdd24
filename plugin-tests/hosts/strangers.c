/*
 * A careless host, and an older and a newer one: everything that the ABI promises to meet with a status where others
 * crash. NULL in every place, texts and structs that are not what they say, use after close, releases in any order.
 * It runs on the Kafka inside the plugin, so it needs no broker; best under valgrind or with -fsanitize=address.
 *
 *     cc -std=c11 -I include -o strangers plugin-tests/hosts/strangers.c -ldl
 *     ./strangers target/release/liboctopus.so
 */

#define _DEFAULT_SOURCE /* for mmap's MAP_ANONYMOUS and nanosleep */

#include "octopus.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000, RUBBISH_BYTE = 0xAA, MANY = 64 };

static const octopus_api *octopus;

/* ---- what is expected of each call ---------------------------------------------------------------------------- */

static _Noreturn void fail(int line, const char *call, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "strangers.c:%d: %s\n    ", line, call);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

#define EXPECT(condition)                                  \
    do {                                                   \
        if (!(condition))                                  \
            fail(__LINE__, #condition, "does not hold");   \
    } while (0)

/* Where calls that are to be refused would put their results: nothing may be written here. */
static struct {
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_future *future, *futures[2];
    octopus_event *event, *events[2];
    octopus_string *string;
    octopus_thread_pool *pool;
    octopus_text text;
    uint64_t number;
    uint32_t count, array[2];
    int32_t flag;
} out;

static int only_rubbish(const void *bytes, size_t size)
{
    for (size_t at = 0; at < size; at++)
        if (((const unsigned char *)bytes)[at] != RUBBISH_BYTE)
            return 0;
    return 1;
}

static octopus_error *rubbish_pointer(void)
{
    octopus_error *error;
    memset(&error, RUBBISH_BYTE, sizeof error);
    return error;
}

/* Looks at the status and the error of a call, whose place for the error held rubbish before. */
static void settle(int line, const char *call, octopus_status expected, octopus_status status, octopus_error **place)
{
    octopus_error *error = place ? *place : NULL;
    if (error == rubbish_pointer())
        fail(line, call, "gave status %d and left the place for the error as it was", status);
    octopus_text message = octopus->error->message(error);
    if (status != expected)
        fail(line, call, "gave status %d, not %d: %.*s", status, expected, (int)message.size,
             message.data ? message.data : "");
    if (place && (error != NULL) != (status < 0))
        fail(line, call, "status %d %s an error object", status, error ? "came with" : "came without");
    if (error && (octopus->error->code(error) != status || message.size == 0))
        fail(line, call, "the error tells of status %d, with %" PRIu64 " bytes of message",
             octopus->error->code(error), message.size);
    octopus->error->release(error);
}

/* The call names `error` as the place for its error. */
#define SUCCEEDS(call)                                             \
    do {                                                           \
        octopus_error *object_ = rubbish_pointer();                \
        octopus_error **error = &object_;                          \
        octopus_status status_ = (call);                           \
        settle(__LINE__, #call, OCTOPUS_OK, status_, error);       \
    } while (0)

/* Made twice: with a place for the error, and with NULL for it. */
#define GIVES(expected, call)                                                        \
    do {                                                                             \
        for (int pass_ = 0; pass_ < 2; pass_++) {                                    \
            octopus_error *object_ = rubbish_pointer();                              \
            octopus_error **error = pass_ == 0 ? &object_ : NULL;                    \
            memset(&out, RUBBISH_BYTE, sizeof out);                                  \
            octopus_status status_ = (call);                                         \
            settle(__LINE__, #call, (expected), status_, error);                     \
            if (!only_rubbish(&out, sizeof out))                                     \
                fail(__LINE__, #call, "wrote a result in spite of its status");      \
        }                                                                            \
    } while (0)

/* A build may lack slots. Those it has must all be tried: `check_all_tried` looks for one that was forgotten here. */
static const void *tried[2 * MANY];
static size_t tried_count;

static int was_tried(const void *slot)
{
    for (size_t at = 0; at < tried_count; at++)
        if (tried[at] == slot)
            return 1;
    return 0;
}

static int try_slot(const void *slot, int is_built)
{
    if (!was_tried(slot)) {
        EXPECT(tried_count < sizeof tried / sizeof *tried);
        tried[tried_count++] = slot;
    }
    return is_built;
}

#define BUILT(noun, slot) try_slot(&octopus->noun->slot, OCTOPUS_HAS(octopus->noun, slot))

#define SLOT_GIVES(expected, noun, slot, ...)                            \
    do {                                                                 \
        if (OCTOPUS_HAS(octopus->noun, slot))                            \
            GIVES(expected, octopus->noun->slot(__VA_ARGS__, error));    \
    } while (0)

#define REFUSES(noun, slot, ...)                                             \
    do {                                                                     \
        if (BUILT(noun, slot))                                               \
            SLOT_GIVES(OCTOPUS_INVALID_ARGUMENT, noun, slot, __VA_ARGS__);   \
    } while (0)

static void check_all_tried(const char *noun, const void *table, size_t known)
{
    uint64_t size;
    memcpy(&size, table, sizeof size);
    for (size_t at = sizeof size; at < known && at < size; at += sizeof(void *)) {
        const char *slot = (const char *)table + at;
        void *function;
        memcpy(&function, slot, sizeof function);
        if (function && !was_tried(slot))
            fail(__LINE__, noun, "its slot at offset %zu is built and not tried here", at);
    }
}

static octopus_text text(const char *from)
{
    return (octopus_text){from, strlen(from)};
}

static octopus_bytes bytes(const char *from)
{
    return (octopus_bytes){(const uint8_t *)from, strlen(from)};
}

static int is(const char *expected, const void *data, uint64_t size)
{
    return size == strlen(expected) && (size == 0 || memcmp(expected, data, size) == 0);
}

/* ---- hosts' contexts: each must be destroyed once ------------------------------------------------------------- */

struct witness {
    atomic_int destroyed;
};

static struct witness witnesses[2 * MANY];
static size_t witness_count;

static struct witness *new_witness(void)
{
    EXPECT(witness_count < sizeof witnesses / sizeof *witnesses);
    return &witnesses[witness_count++];
}

static void note_destroyed(void *context)
{
    atomic_fetch_add(&((struct witness *)context)->destroyed, 1);
}

/* Reads what it is given to the last byte, for whoever watches over memory. */
static void read_message(void *context, int32_t level, octopus_text source, octopus_text message)
{
    static atomic_uint sum;
    (void)context;
    for (uint64_t at = 0; at < source.size + message.size; at++)
        atomic_fetch_add(&sum, (unsigned char)(at < source.size ? source.data[at] : message.data[at - source.size]));
    EXPECT(level >= OCTOPUS_LOG_ERROR && level <= OCTOPUS_LOG_TRACE);
}

/* Clients end in the background, so a context may be destroyed a moment after the last handle is released. */
static void await_count(struct witness *witness, int count, int line)
{
    const struct timespec moment = {.tv_nsec = 10000000};
    for (int patience = 0; patience < PATIENCE_MS / 10 && atomic_load(&witness->destroyed) < count; patience++)
        nanosleep(&moment, NULL);
    if (atomic_load(&witness->destroyed) != count)
        fail(line, "destroy", "was called %d times, not %d", atomic_load(&witness->destroyed), count);
}

/* ---- a scene: one of each kind -------------------------------------------------------------------------------- */

struct scene {
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_future *push, *flush, *pull;
    octopus_event *event;
    const char *data;
};

static octopus_driver *new_driver(void)
{
    octopus_driver *driver;
    octopus_host_services services = {
        .size = sizeof services,
        .log = {.function = read_message, .context = new_witness(), .destroy = note_destroyed},
    };
    const char *config = "{\"embedded\":{},\"open_retry_ms\":0,\"disable_info_topic\":true}"; /* for speed */
    SUCCEEDS(octopus->driver->create(text(config), &services, &driver, error));
    return driver;
}

static octopus_consumer *new_consumer(const octopus_topic *topic, const char *group)
{
    octopus_consumer *consumer;
    octopus_consumer_args args = {.size = sizeof args, .name = text(group)};
    SUCCEEDS(octopus->topic->make_consumer(topic, &args, &consumer, error));
    return consumer;
}

static octopus_future *push(const octopus_producer *producer, const char *data)
{
    octopus_future *future;
    octopus_bytes segment = bytes(data);
    octopus_push_args event = {.size = sizeof event, .segments = &segment, .segment_count = 1};
    SUCCEEDS(octopus->producer->push(producer, &event, &future, error));
    return future;
}

static octopus_future *pull(const octopus_consumer *consumer)
{
    octopus_future *future;
    SUCCEEDS(octopus->consumer->pull(consumer, &future, error));
    SUCCEEDS(octopus->future->wait(future, PATIENCE_MS, error));
    return future;
}

static octopus_event *event_of(const octopus_future *pull)
{
    octopus_event *event;
    SUCCEEDS(octopus->future->event(pull, &event, error));
    return event;
}

static struct scene new_scene(const char *topic, const char *data)
{
    struct scene scene = {.driver = new_driver(), .data = data};
    SUCCEEDS(octopus->driver->create_topic(scene.driver, text(topic), NULL, error));
    SUCCEEDS(octopus->driver->open_topic(scene.driver, text(topic), &scene.topic, error));
    SUCCEEDS(octopus->topic->make_producer(scene.topic, NULL, &scene.producer, error));
    scene.push = push(scene.producer, data);
    SUCCEEDS(octopus->producer->flush(scene.producer, NULL, error));
    SUCCEEDS(octopus->producer->flush(scene.producer, &scene.flush, error));
    SUCCEEDS(octopus->future->wait(scene.push, PATIENCE_MS, error));
    SUCCEEDS(octopus->future->wait(scene.flush, PATIENCE_MS, error));
    scene.consumer = new_consumer(scene.topic, "readers");
    scene.pull = pull(scene.consumer);
    scene.event = event_of(scene.pull);
    return scene;
}

enum { KINDS = 8 };

static void release_kind(struct scene *scene, int kind)
{
    switch (kind) {
    case 0: octopus->driver->release(scene->driver); scene->driver = NULL; break;
    case 1: octopus->topic->release(scene->topic); scene->topic = NULL; break;
    case 2: octopus->producer->release(scene->producer); scene->producer = NULL; break;
    case 3: octopus->consumer->release(scene->consumer); scene->consumer = NULL; break;
    case 4: octopus->future->release(scene->push); scene->push = NULL; break;
    case 5: octopus->future->release(scene->flush); scene->flush = NULL; break;
    case 6: octopus->future->release(scene->pull); scene->pull = NULL; break;
    case 7: octopus->event->release(scene->event); scene->event = NULL; break;
    }
}

static void release_scene(struct scene *scene)
{
    for (int kind = 0; kind < KINDS; kind++)
        release_kind(scene, kind);
}

static void check_event(const octopus_event *event, const char *metadata, const char *data)
{
    octopus_event_view view = {.size = sizeof view};
    SUCCEEDS(octopus->event->view(event, &view, error));
    EXPECT(is(metadata, view.metadata.data, view.metadata.size));
    EXPECT(is(data, view.data.data, view.data.size));
}

/* ---- the groups of checks ------------------------------------------------------------------------------------- */

/* Everything after this runs on a library that its host has closed. */
static void register_and_unload(const char *path)
{
    const octopus_api *(*octopus_register_of_library)(uint32_t);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "octopus_register") : NULL;
    if (!symbol)
        fail(__LINE__, path, "%s", dlerror());
    memcpy(&octopus_register_of_library, &symbol, sizeof symbol);

    EXPECT(octopus_register_of_library(OCTOPUS_ABI_MAJOR + 1) == NULL);
    octopus = octopus_register_of_library(OCTOPUS_ABI_MAJOR);
    EXPECT(octopus && octopus->abi_major == OCTOPUS_ABI_MAJOR && octopus->abi_minor == OCTOPUS_ABI_MINOR);
    EXPECT(octopus->size >= sizeof *octopus);
    for (int again = 0; again < MANY; again++) {
        EXPECT(octopus_register_of_library(OCTOPUS_ABI_MAJOR) == octopus);
        EXPECT(octopus_register_of_library(UINT32_MAX) == NULL);
    }
    EXPECT(dlclose(library) == 0);
    library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    EXPECT(library && dlclose(library) == 0);
    EXPECT(is("octopus", octopus->name.data, octopus->name.size));
    printf("registered any number of times, for its own major only; what follows is after dlclose\n");
}

static void give_null_to_error_and_string(void)
{
    EXPECT(BUILT(error, code) && octopus->error->code(NULL) == OCTOPUS_OK);
    EXPECT(BUILT(error, kafka_code) && octopus->error->kafka_code(NULL) == 0);
    EXPECT(BUILT(error, retriable) && octopus->error->retriable(NULL) == 0);
    EXPECT(BUILT(error, stored) && octopus->error->stored(NULL) == OCTOPUS_STORED_NO);
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
    REFUSES(driver, register_component, NULL, OCTOPUS_VALIDATOR, name, &component);
    REFUSES(driver, register_component, driver, OCTOPUS_VALIDATOR, name, NULL);
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

static int32_t stop(void *context, octopus_event *event)
{
    (void)context, (void)event;
    return OCTOPUS_STOP;
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

static octopus_status refuse_task(void *context, const octopus_task *task, uint64_t priority)
{
    (void)context, (void)task, (void)priority;
    return OCTOPUS_UNSUPPORTED;
}

static uint64_t none(void *context)
{
    (void)context;
    return 0;
}

static void do_nothing(void *context)
{
    (void)context;
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
        REFUSES(driver, register_component, scene->driver, OCTOPUS_VALIDATOR, bad, &component);

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

/* ---- structs of other sizes ----------------------------------------------------------------------------------- */

/*
 * A copy of a struct's first `size` bytes at the end of the memory that may be touched, so that whoever reads or
 * writes beyond them crashes. Its size field says `says`. The memory is used again by the next call.
 */
static void *at_the_edge(const void *from, size_t size, uint64_t says)
{
    static char *page;
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    if (!page) {
        page = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT(page != MAP_FAILED && mprotect(page + page_size, page_size, PROT_NONE) == 0);
    }
    memset(page, RUBBISH_BYTE, page_size);
    char *start = page + page_size - (size + 7) / 8 * 8; /* structs are aligned */
    memcpy(start, from, size);
    memcpy(start, &says, sizeof says);
    return start;
}

/* One way to use a struct that a host fills. What comes of it is released at once. */
typedef octopus_status use_fn(const struct scene *scene, const void *args, octopus_error **error);

static octopus_status use_services(const struct scene *scene, const void *args, octopus_error **error)
{
    (void)scene;
    octopus_driver *driver = NULL;
    octopus_status status = octopus->driver->create(text("{\"embedded\":{}}"), args, &driver, error);
    octopus->driver->release(driver);
    return status;
}

static octopus_status use_topic_args(const struct scene *scene, const void *args, octopus_error **error)
{
    static int count;
    char name[32];
    snprintf(name, sizeof name, "sizes-%d", count++);
    return octopus->driver->create_topic(scene->driver, text(name), args, error);
}

static octopus_status use_producer_args(const struct scene *scene, const void *args, octopus_error **error)
{
    octopus_producer *producer = NULL;
    octopus_status status = octopus->topic->make_producer(scene->topic, args, &producer, error);
    octopus->producer->release(producer);
    return status;
}

static octopus_status use_consumer_args(const struct scene *scene, const void *args, octopus_error **error)
{
    octopus_consumer *consumer = NULL;
    octopus_status status = octopus->topic->make_consumer(scene->topic, args, &consumer, error);
    octopus->consumer->release(consumer);
    return status;
}

static octopus_status use_push_args(const struct scene *scene, const void *args, octopus_error **error)
{
    return octopus->producer->push(scene->producer, args, NULL, error);
}

static octopus_status use_component(const struct scene *scene, const void *args, octopus_error **error)
{
    static int count; /* a type can be registered once */
    char name[32];
    snprintf(name, sizeof name, "sizes-%d", count++);
    return octopus->driver->register_component(scene->driver, OCTOPUS_VALIDATOR, text(name), args, error);
}

static octopus_status use_pool_functions(const struct scene *scene, const void *args, octopus_error **error)
{
    (void)scene;
    octopus_thread_pool *pool = NULL;
    octopus_status status = octopus->thread_pool->from_host(args, &pool, error);
    octopus->thread_pool->release(pool);
    return status;
}

static octopus_status make_instance(void *context, octopus_text json, void **instance,
                                    const octopus_component_reply *reply)
{
    (void)context, (void)json, (void)reply;
    *instance = NULL;
    return OCTOPUS_OK;
}

static octopus_status accept_event(void *instance, octopus_text metadata, const octopus_bytes *segments,
                                   uint64_t segment_count, const octopus_component_reply *reply)
{
    (void)instance, (void)metadata, (void)segments, (void)segment_count, (void)reply;
    return OCTOPUS_OK;
}

/* `ends`: where the fields of a struct end, of which the first `too_few` are not enough to be accepted. */
static void use_with_any_size(const struct scene *scene, use_fn *use, const void *filled, const size_t *ends,
                              size_t too_few)
{
    size_t whole = 0;
    for (uint64_t says = 0; says < sizeof says; says++)
        GIVES(OCTOPUS_INVALID_ARGUMENT, use(scene, at_the_edge(filled, sizeof says, says), error));
    for (size_t at = 0; ends[at] != 0; at++) {
        whole = ends[at];
        if (at < too_few)
            GIVES(OCTOPUS_INVALID_ARGUMENT, use(scene, at_the_edge(filled, whole, whole), error));
        else
            SUCCEEDS(use(scene, at_the_edge(filled, whole, whole), error));
    }
    /* A host that knows more fields than the plugin does. */
    uint64_t newer[64];
    memset(newer, RUBBISH_BYTE, sizeof newer);
    memcpy(newer, filled, whole);
    newer[0] = sizeof newer;
    SUCCEEDS(use(scene, newer, error));
    /* One that knows even more, but none of it is there: the plugin must not look. */
    SUCCEEDS(use(scene, at_the_edge(filled, whole, UINT64_MAX), error));
}

static void check_sizes_of_services(void)
{
    static struct witness log; /* of several drivers, so counted here */
    octopus_host_services services = {
        .size = sizeof services,
        .log = {.function = read_message, .context = &log, .destroy = note_destroyed},
    };
    /* A context that the plugin has read is the plugin's to destroy, also when no driver comes of it. */
    GIVES(OCTOPUS_INVALID_CONFIGURATION, octopus->driver->create(text("{}"), &services, &out.driver, error));
    GIVES(OCTOPUS_INVALID_ARGUMENT, octopus->driver->create(text("{\"embedded\":{}}"), &services, NULL, error));
    EXPECT(atomic_load(&log.destroyed) == 4);

    const size_t ends[] = {8, 32, 56, 80, 104, 128, 132, 136, 0};
    use_with_any_size(NULL, use_services, &services, ends, 0);
    await_count(&log, 4 + 9, __LINE__); /* all of these drivers but the one whose struct ended before the log */
}

static void check_sizes_of_args(const struct scene *scene)
{
    const octopus_text object = OCTOPUS_TEXT("{}");
    const octopus_create_topic_args topic = {0, object, object, object, object};
    const size_t topic_ends[] = {8, 24, 40, 56, 72, 0};
    use_with_any_size(scene, use_topic_args, &topic, topic_ends, 0);

    const octopus_producer_args producer = {.name = OCTOPUS_TEXT("sizes"), .options = object, .batch_size = 10};
    const size_t producer_ends[] = {8, 24, 40, 48, 56, 60, 64, 72, 0};
    use_with_any_size(scene, use_producer_args, &producer, producer_ends, 0);

    const octopus_consumer_args consumer = {.name = OCTOPUS_TEXT("sizes"), .options = object, .batch_size = 10};
    const size_t consumer_ends[] = {8, 24, 40, 48, 56, 64, 72, 80, 0};
    use_with_any_size(scene, use_consumer_args, &consumer, consumer_ends, 1); /* a consumer needs a name */

    if (OCTOPUS_HAS(octopus->driver, register_component)) {
        const octopus_component component = {
            .make = make_instance, .destroy_instance = do_nothing, .validate = accept_event};
        const size_t component_ends[] = {sizeof component, 0};
        use_with_any_size(scene, use_component, &component, component_ends, 0);
    }
    if (OCTOPUS_HAS(octopus->thread_pool, from_host)) {
        const octopus_pool_functions functions = {.submit = refuse_task, .pending = none, .thread_count = none};
        const size_t functions_ends[] = {sizeof functions, 0};
        use_with_any_size(scene, use_pool_functions, &functions, functions_ends, 0);
    }
}

static void check_sizes_of_push_args(const struct scene *scene)
{
    const octopus_bytes data = bytes("data");
    const octopus_push_args event = {
        .metadata = bytes("\"metadata\""), .segments = &data, .segment_count = 1, .has_partition = 1};
    const size_t ends[] = {8, 24, 32, 40, 48, 52, 56, 64, 0};
    use_with_any_size(scene, use_push_args, &event, ends, 0);

    /* What an older host does not know is missing from its events; those of newer ones are like the whole one. */
    for (size_t at = 0; at < sizeof ends / sizeof *ends - 1 + 2; at++) {
        octopus_future *ticket = pull(scene->consumer);
        octopus_event *read = event_of(ticket);
        check_event(read, at < 1 ? "{}" : "\"metadata\"", at < 3 ? "" : "data");
        octopus->event->release(read);
        octopus->future->release(ticket);
    }
}

static void check_sizes_of_view(const struct scene *scene)
{
    octopus_event_view whole = {.size = sizeof whole};
    SUCCEEDS(octopus->event->view(scene->event, &whole, error));

    uint64_t room[64], untouched[64];
    memset(untouched, RUBBISH_BYTE, sizeof untouched);
    for (uint64_t says = 0; says < sizeof says; says++)
        GIVES(OCTOPUS_INVALID_ARGUMENT, octopus->event->view(scene->event, at_the_edge(untouched, 8, says), error));
    for (size_t says = sizeof(uint64_t); says <= sizeof whole; says += 4) {
        octopus_event_view *view = at_the_edge(untouched, says, says);
        SUCCEEDS(octopus->event->view(scene->event, view, error));
        EXPECT(view->size == says);
        EXPECT(memcmp((char *)view + 8, (char *)&whole + 8, says - 8) == 0);
        EXPECT(says % 8 == 0 || only_rubbish((char *)view + says, 8 - says % 8));
    }
    memcpy(room, untouched, sizeof room);
    room[0] = sizeof room;
    SUCCEEDS(octopus->event->view(scene->event, (octopus_event_view *)room, error));
    EXPECT(room[0] == sizeof room);
    EXPECT(memcmp((char *)room + 8, (char *)&whole + 8, sizeof whole - 8) == 0);
    EXPECT(memcmp((char *)room + sizeof whole, untouched, sizeof room - sizeof whole) == 0);
    SUCCEEDS(octopus->event->view(scene->event, at_the_edge(untouched, sizeof whole, UINT64_MAX), error));
}

static void give_structs_of_any_size(void)
{
    struct scene scene = new_scene("sizes", "a first event");
    check_sizes_of_services();
    check_sizes_of_args(&scene);
    check_sizes_of_push_args(&scene);
    check_sizes_of_view(&scene);
    release_scene(&scene);
    printf("structs are read and written as far as they and the plugin reach; of size 0 they are refused\n");
}

/* ---- lives and deaths of handles ------------------------------------------------------------------------------ */

static void use_after_close(void)
{
    struct scene scene = new_scene("closed", "data");
    octopus_producer *producer = scene.producer;
    octopus_consumer *consumer = scene.consumer;
    octopus_push_args event = {.size = sizeof event};
    uint64_t pushed;

    SUCCEEDS(octopus->producer->close(producer, PATIENCE_MS, error));
    SLOT_GIVES(OCTOPUS_CLOSED, producer, push, producer, &event, &out.future);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, push, producer, &event, NULL);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, push_many, producer, &event, 1, out.futures, &pushed);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, flush, producer, &out.future);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, flush, producer, NULL);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, max_event_size, producer, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, producer, close, producer, 0);
    SUCCEEDS(octopus->future->wait(scene.push, 0, error)); /* results stay */
    SUCCEEDS(octopus->future->wait(scene.flush, 0, error));

    octopus_future *unused;
    int32_t is_complete;
    SUCCEEDS(octopus->consumer->pull(consumer, &unused, error));
    SUCCEEDS(octopus->consumer->close(consumer, PATIENCE_MS, error));
    octopus_processor processor = {.function = stop};
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, pull, consumer, &out.future);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, pull_many, consumer, 1, 0, out.events, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, process, consumer, &processor, 0, 1, NULL);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, commit, consumer, 0);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, position, consumer, 0, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, committed, consumer, 0, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, lag, consumer, 0, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, seek, consumer, 0, 0);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, assignment, consumer, out.array, 2, &out.number);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, unsubscribe, consumer);
    SLOT_GIVES(OCTOPUS_CLOSED, consumer, close, consumer, 0);
    SLOT_GIVES(OCTOPUS_CLOSED, future, wait, unused, -1);
    SUCCEEDS(octopus->future->test(unused, &is_complete, error));
    EXPECT(is_complete == 1);
    octopus->future->release(unused);
    SUCCEEDS(octopus->future->wait(scene.pull, 0, error));
    check_event(scene.event, "{}", "data");
    SLOT_GIVES(OCTOPUS_STALE, event, acknowledge, scene.event);
    release_scene(&scene);
    printf("what was closed says so in every slot; what was read from it stays\n");
}

/* Whatever went before it, what is left works. */
static void use_what_is_left(const struct scene *scene)
{
    octopus_string *json;
    octopus_text name;
    octopus_event *event;
    uint64_t number;
    if (scene->driver) {
        SUCCEEDS(octopus->driver->describe(scene->driver, &json, error));
        EXPECT(octopus->string->view(json).size > 2);
        octopus->string->release(json);
    }
    if (scene->topic) {
        SUCCEEDS(octopus->topic->name(scene->topic, &name, error));
        EXPECT(is("orders", name.data, name.size));
    }
    if (scene->producer)
        octopus->future->release(push(scene->producer, scene->data));
    if (scene->push) {
        SUCCEEDS(octopus->future->event_id(scene->push, &number, error));
        EXPECT(number == 0);
    }
    if (scene->flush)
        SUCCEEDS(octopus->future->wait(scene->flush, INT64_MIN, error));
    if (scene->consumer) {
        octopus_future *ticket;
        SUCCEEDS(octopus->consumer->pull(scene->consumer, &ticket, error));
        if (scene->producer && !scene->topic && !scene->driver) /* it has pushed above; takes half a second */
            SUCCEEDS(octopus->future->wait(ticket, PATIENCE_MS, error));
        octopus->future->release(ticket);
    }
    if (scene->pull) {
        SUCCEEDS(octopus->future->event(scene->pull, &event, error));
        check_event(event, "{}", scene->data);
        octopus->event->release(event);
    }
    if (scene->event)
        check_event(scene->event, "{}", scene->data);
}

static void release_in_any_order(void)
{
    for (int first = 0; first < KINDS; first++) {
        struct scene scene = new_scene("orders", "data");
        octopus->event->retain(scene.event);
        octopus->event->release(scene.event);
        octopus->future->retain(scene.push);
        octopus->future->release(scene.push);
        int step = 2 * first + 1; /* odd, so each kind has its turn: the first time onwards, the last time backwards */
        for (int turn = 0; turn < KINDS; turn++) {
            use_what_is_left(&scene);
            release_kind(&scene, (first + turn * step) % KINDS);
        }
    }
    printf("handles are released in any order, and what is left works\n");
}

static void run_two_drivers(void)
{
    int32_t exists;
    octopus_topic *topic;
    struct scene one = new_scene("twins", "data of one"), other = new_scene("twins", "data of the other");
    check_event(one.event, "{}", "data of one");
    check_event(other.event, "{}", "data of the other");

    SUCCEEDS(octopus->driver->create_topic(one.driver, text("only-one"), NULL, error));
    SUCCEEDS(octopus->driver->topic_exists(one.driver, text("only-one"), &exists, error));
    EXPECT(exists == 1);
    SUCCEEDS(octopus->driver->topic_exists(other.driver, text("only-one"), &exists, error));
    EXPECT(exists == 0);
    GIVES(OCTOPUS_UNKNOWN_TOPIC, octopus->driver->open_topic(other.driver, text("only-one"), &out.topic, error));

    release_scene(&one);
    octopus->future->release(push(other.producer, "more data"));
    octopus_future *ticket = pull(other.consumer);
    octopus_event *event = event_of(ticket);
    check_event(event, "{}", "more data");
    octopus->event->release(event);
    octopus->future->release(ticket);
    SUCCEEDS(octopus->driver->open_topic(other.driver, text("twins"), &topic, error));
    octopus->topic->release(topic);
    release_scene(&other);
    printf("two drivers know nothing of each other, and one outlives the other\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* so that a crash shows how far it came */
    register_and_unload(argv[1]);

    struct scene scene = new_scene("scene", "data");
    give_null_everywhere(&scene);
    give_wrong_texts(&scene);
    push_wrong_events(&scene);
    mistake_one_thing_for_another(&scene);
    check_event(scene.event, "{}", "data");
    release_scene(&scene);

    give_structs_of_any_size();
    use_after_close();
    release_in_any_order();
    run_two_drivers();

    for (size_t at = 0; at < witness_count; at++)
        await_count(&witnesses[at], 1, __LINE__);
    printf("each of %zu drivers has given its host's context back once\n", witness_count);
    return 0;
}
