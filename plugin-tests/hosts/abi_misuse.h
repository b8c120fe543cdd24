/*
 * Shared by the hosts that misuse the ABI (nulls.c, sizes.c, lifetimes.c): macros for calls that
 * must return a status instead of crashing, and a fixture with one handle of each kind. The hosts
 * use the embedded Kafka, so they need no broker. Run them under valgrind or with
 * -fsanitize=address.
 *
 *     cc -std=c11 -I include -o nulls plugin-tests/hosts/nulls.c -ldl
 *     ./nulls target/release/liboctopus.so
 */

#ifndef ABI_MISUSE_H
#define ABI_MISUSE_H

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
#include <time.h>

enum { TIMEOUT_MS = 60000, FILL_BYTE = 0xAA, MANY = 64 };

static const octopus_api *octopus;

/* ---- checks of a call ------------------------------------------------------------------------ */

#define TEXT_OF(line) #line
#define TEXT_OF_VALUE(line) TEXT_OF(line)
#define HERE (__FILE__ ":" TEXT_OF_VALUE(__LINE__))

static inline _Noreturn void fail(const char *where, const char *call, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: %s\n    ", where, call);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

#define EXPECT(condition)                            \
    do {                                             \
        if (!(condition))                            \
            fail(HERE, #condition, "does not hold"); \
    } while (0)

/* The result pointers of calls that must fail point here. Nothing may be written to it. */
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

static inline int is_unwritten(const void *bytes, size_t size)
{
    for (size_t at = 0; at < size; at++)
        if (((const unsigned char *)bytes)[at] != FILL_BYTE)
            return 0;
    return 1;
}

static inline octopus_error *fill_pointer(void)
{
    octopus_error *error;
    memset(&error, FILL_BYTE, sizeof error);
    return error;
}

/* Checks the status and the error of a call. `*place` was filled with FILL_BYTE before the call. */
static inline void check_result(const char *where, const char *call, octopus_status expected,
                                octopus_status status, octopus_error **place)
{
    octopus_error *error = place ? *place : NULL;
    if (error == fill_pointer())
        fail(where, call, "returned status %d and did not set *error", status);
    octopus_text message = octopus->error->message(error);
    if (status != expected)
        fail(where, call, "returned status %d, not %d: %.*s", status, expected, (int)message.size,
             message.data ? message.data : "");
    if (place && (error != NULL) != (status < 0))
        fail(where, call, "returned status %d %s an error object", status,
             error ? "with" : "without");
    if (error && (octopus->error->code(error) != status || message.size == 0))
        fail(where, call, "the error has status %d and a message of %" PRIu64 " bytes",
             octopus->error->code(error), message.size);
    octopus->error->release(error);
}

/* The call must pass `error` as its error argument. */
#define SUCCEEDS(call)                                         \
    do {                                                       \
        octopus_error *object_ = fill_pointer();               \
        octopus_error **error = &object_;                      \
        octopus_status status_ = (call);                       \
        check_result(HERE, #call, OCTOPUS_OK, status_, error); \
    } while (0)

/* Makes the call twice: with an error argument, and with NULL for it. */
#define RETURNS(expected, call)                                    \
    do {                                                           \
        for (int pass_ = 0; pass_ < 2; pass_++) {                  \
            octopus_error *object_ = fill_pointer();               \
            octopus_error **error = pass_ == 0 ? &object_ : NULL;  \
            memset(&out, FILL_BYTE, sizeof out);                   \
            octopus_status status_ = (call);                       \
            check_result(HERE, #call, (expected), status_, error); \
            if (!is_unwritten(&out, sizeof out))                   \
                fail(HERE, #call, "failed and wrote a result");    \
        }                                                          \
    } while (0)

/* A build may lack slots. `check_all_tested` fails if a slot that the build has is not tested. */
static const void *tested[2 * MANY];
static size_t tested_count;

static inline int was_tested(const void *slot)
{
    for (size_t at = 0; at < tested_count; at++)
        if (tested[at] == slot)
            return 1;
    return 0;
}

static inline int test_slot(const void *slot, int is_built)
{
    if (!was_tested(slot)) {
        EXPECT(tested_count < sizeof tested / sizeof *tested);
        tested[tested_count++] = slot;
    }
    return is_built;
}

#define BUILT(noun, slot) test_slot(&octopus->noun->slot, OCTOPUS_HAS(octopus->noun, slot))

#define SLOT_RETURNS(expected, noun, slot, ...)                         \
    do {                                                                \
        if (OCTOPUS_HAS(octopus->noun, slot))                           \
            RETURNS(expected, octopus->noun->slot(__VA_ARGS__, error)); \
    } while (0)

#define REJECTS(noun, slot, ...)                                             \
    do {                                                                     \
        if (BUILT(noun, slot))                                               \
            SLOT_RETURNS(OCTOPUS_INVALID_ARGUMENT, noun, slot, __VA_ARGS__); \
    } while (0)

static inline void check_all_tested(const char *noun, const void *table, size_t known)
{
    uint64_t size;
    memcpy(&size, table, sizeof size);
    for (size_t at = sizeof size; at < known && at < size; at += sizeof(void *)) {
        const char *slot = (const char *)table + at;
        void *function;
        memcpy(&function, slot, sizeof function);
        if (function && !was_tested(slot))
            fail(HERE, noun, "its slot at offset %zu is built and not tested here", at);
    }
}

static inline octopus_text text(const char *from) { return (octopus_text){from, strlen(from)}; }

static inline octopus_bytes bytes(const char *from)
{
    return (octopus_bytes){(const uint8_t *)from, strlen(from)};
}

static inline int is(const char *expected, const void *data, uint64_t size)
{
    return size == strlen(expected) && (size == 0 || memcmp(expected, data, size) == 0);
}

/* ---- contexts of the host: each must be destroyed once --------------------------------------- */

struct context_counter {
    atomic_int destroyed;
};

static struct context_counter context_counters[2 * MANY];
static size_t context_counter_count;

static inline struct context_counter *new_context_counter(void)
{
    EXPECT(context_counter_count < sizeof context_counters / sizeof *context_counters);
    return &context_counters[context_counter_count++];
}

static inline void count_destroyed(void *context)
{
    atomic_fetch_add(&((struct context_counter *)context)->destroyed, 1);
}

/* Reads each byte of the message, so that a sanitizer or valgrind sees an invalid one. */
static inline void read_message(void *context, int32_t level, octopus_text source,
                                octopus_text message)
{
    static atomic_uint sum;
    (void)context;
    for (uint64_t at = 0; at < source.size + message.size; at++)
        atomic_fetch_add(&sum, (unsigned char)(at < source.size ? source.data[at]
                                                                : message.data[at - source.size]));
    EXPECT(level >= OCTOPUS_LOG_ERROR && level <= OCTOPUS_LOG_TRACE);
}

/* Clients end in the background, so a context may be destroyed after the last handle is
 * released. */
static inline void await_destroyed(struct context_counter *context_counter, int count,
                                   const char *where)
{
    const struct timespec moment = {.tv_nsec = 10000000};
    for (int waits = 0; waits < TIMEOUT_MS / 10 && atomic_load(&context_counter->destroyed) < count;
         waits++)
        nanosleep(&moment, NULL);
    if (atomic_load(&context_counter->destroyed) != count)
        fail(where, "destroy", "was called %d times, not %d",
             atomic_load(&context_counter->destroyed), count);
}

/* ---- a fixture: one handle of each kind ------------------------------------------------------ */

struct fixture {
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_future *push, *flush, *pull;
    octopus_event *event;
    const char *data;
};

static inline octopus_driver *new_driver(void)
{
    octopus_driver *driver;
    octopus_host_services services = {
        .size = sizeof services,
        .log = {.function = read_message,
                .context = new_context_counter(),
                .destroy = count_destroyed},
    };
    const char *config =
        "{\"embedded\":{},\"open_retry_ms\":0,\"disable_info_topic\":true}"; /* faster */
    SUCCEEDS(octopus->driver->create(text(config), &services, &driver, error));
    return driver;
}

static inline octopus_consumer *new_consumer(const octopus_topic *topic, const char *group)
{
    octopus_consumer *consumer;
    octopus_consumer_args args = {.size = sizeof args, .name = text(group)};
    SUCCEEDS(octopus->topic->make_consumer(topic, &args, &consumer, error));
    return consumer;
}

static inline octopus_future *push(const octopus_producer *producer, const char *data)
{
    octopus_future *future;
    octopus_bytes segment = bytes(data);
    octopus_push_args event = {.size = sizeof event, .segments = &segment, .segment_count = 1};
    SUCCEEDS(octopus->producer->push(producer, &event, &future, error));
    return future;
}

static inline octopus_future *pull(const octopus_consumer *consumer)
{
    octopus_future *future;
    SUCCEEDS(octopus->consumer->pull(consumer, &future, error));
    SUCCEEDS(octopus->future->wait(future, TIMEOUT_MS, error));
    return future;
}

static inline octopus_event *event_of(const octopus_future *pull)
{
    octopus_event *event;
    SUCCEEDS(octopus->future->event(pull, &event, error));
    return event;
}

static inline struct fixture new_fixture(const char *topic, const char *data)
{
    struct fixture fixture = {.driver = new_driver(), .data = data};
    SUCCEEDS(octopus->driver->create_topic(fixture.driver, text(topic), NULL, error));
    SUCCEEDS(octopus->driver->open_topic(fixture.driver, text(topic), &fixture.topic, error));
    SUCCEEDS(octopus->topic->make_producer(fixture.topic, NULL, &fixture.producer, error));
    fixture.push = push(fixture.producer, data);
    SUCCEEDS(octopus->producer->flush(fixture.producer, NULL, error));
    SUCCEEDS(octopus->producer->flush(fixture.producer, &fixture.flush, error));
    SUCCEEDS(octopus->future->wait(fixture.push, TIMEOUT_MS, error));
    SUCCEEDS(octopus->future->wait(fixture.flush, TIMEOUT_MS, error));
    fixture.consumer = new_consumer(fixture.topic, "readers");
    fixture.pull = pull(fixture.consumer);
    fixture.event = event_of(fixture.pull);
    return fixture;
}

enum { KINDS = 8 };

static inline void release_kind(struct fixture *fixture, int kind)
{
    switch (kind) {
    case 0:
        octopus->driver->release(fixture->driver);
        fixture->driver = NULL;
        break;
    case 1:
        octopus->topic->release(fixture->topic);
        fixture->topic = NULL;
        break;
    case 2:
        octopus->producer->release(fixture->producer);
        fixture->producer = NULL;
        break;
    case 3:
        octopus->consumer->release(fixture->consumer);
        fixture->consumer = NULL;
        break;
    case 4:
        octopus->future->release(fixture->push);
        fixture->push = NULL;
        break;
    case 5:
        octopus->future->release(fixture->flush);
        fixture->flush = NULL;
        break;
    case 6:
        octopus->future->release(fixture->pull);
        fixture->pull = NULL;
        break;
    case 7:
        octopus->event->release(fixture->event);
        fixture->event = NULL;
        break;
    }
}

static inline void release_fixture(struct fixture *fixture)
{
    for (int kind = 0; kind < KINDS; kind++)
        release_kind(fixture, kind);
}

static inline void check_event(const octopus_event *event, const char *metadata, const char *data)
{
    octopus_event_view view = {.size = sizeof view};
    SUCCEEDS(octopus->event->view(event, &view, error));
    EXPECT(is(metadata, view.metadata.data, view.metadata.size));
    EXPECT(is(data, view.data.data, view.data.size));
}

/* ---- callbacks of the host ------------------------------------------------------------------- */

static inline int32_t stop(void *context, octopus_event *event)
{
    (void)context, (void)event;
    return OCTOPUS_PROCESS_STOP;
}

static inline octopus_status reject_task(void *context, const octopus_task *task, uint64_t priority)
{
    (void)context, (void)task, (void)priority;
    return OCTOPUS_UNSUPPORTED;
}

static inline uint64_t return_zero(void *context)
{
    (void)context;
    return 0;
}

static inline void do_nothing(void *context) { (void)context; }

/* ---- the run of a host ----------------------------------------------------------------------- */

/* Everything after this runs after the host has closed the library by dlclose. */
static inline void register_and_unload(const char *path)
{
    const octopus_api *(*octopus_register_of_library)(uint32_t);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "octopus_register") : NULL;
    if (!symbol)
        fail(HERE, path, "%s", dlerror());
    memcpy(&octopus_register_of_library, &symbol, sizeof symbol);

    EXPECT(octopus_register_of_library(OCTOPUS_ABI_MAJOR + 1) == NULL);
    octopus = octopus_register_of_library(OCTOPUS_ABI_MAJOR);
    EXPECT(octopus && octopus->abi_major == OCTOPUS_ABI_MAJOR &&
           octopus->abi_minor == OCTOPUS_ABI_MINOR);
    EXPECT(octopus->size >= sizeof *octopus);
    for (int call = 0; call < MANY; call++) {
        EXPECT(octopus_register_of_library(OCTOPUS_ABI_MAJOR) == octopus);
        EXPECT(octopus_register_of_library(UINT32_MAX) == NULL);
    }
    EXPECT(dlclose(library) == 0);
    library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    EXPECT(library && dlclose(library) == 0);
    EXPECT(is("octopus", octopus->name.data, octopus->name.size));
    printf(
        "octopus_register is idempotent and rejects other majors; the following checks run after dlclose\n");
}

/* Runs `checks` on the library named on the command line, and checks that it destroyed each context
 * once. */
static inline int run_all(int argc, char **argv, void (*checks)(void))
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* so that the output shows where it crashed */
    register_and_unload(argv[1]);
    checks();
    for (size_t at = 0; at < context_counter_count; at++)
        await_destroyed(&context_counters[at], 1, HERE);
    printf("each of %zu drivers has destroyed its host's context once\n", context_counter_count);
    return 0;
}

#endif
