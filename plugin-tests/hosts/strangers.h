/*
 * What careless hosts share: how a call is made that must be met with a status where others crash, and a scene with one
 * handle of each kind. It runs on the Kafka inside the plugin, so it needs no broker; best under valgrind or with
 * -fsanitize=address.
 *
 *     cc -std=c11 -I include -o nulls plugin-tests/hosts/nulls.c -ldl
 *     ./nulls target/release/liboctopus.so
 */

#ifndef STRANGERS_H
#define STRANGERS_H

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

enum { PATIENCE_MS = 60000, RUBBISH_BYTE = 0xAA, MANY = 64 };

static const octopus_api *octopus;

/* ---- what is expected of each call ---------------------------------------------------------------------------- */

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

#define EXPECT(condition)                              \
    do {                                               \
        if (!(condition))                              \
            fail(HERE, #condition, "does not hold");   \
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

static inline int only_rubbish(const void *bytes, size_t size)
{
    for (size_t at = 0; at < size; at++)
        if (((const unsigned char *)bytes)[at] != RUBBISH_BYTE)
            return 0;
    return 1;
}

static inline octopus_error *rubbish_pointer(void)
{
    octopus_error *error;
    memset(&error, RUBBISH_BYTE, sizeof error);
    return error;
}

/* Looks at the status and the error of a call, whose place for the error held rubbish before. */
static inline void settle(const char *where, const char *call, octopus_status expected, octopus_status status,
                          octopus_error **place)
{
    octopus_error *error = place ? *place : NULL;
    if (error == rubbish_pointer())
        fail(where, call, "gave status %d and left the place for the error as it was", status);
    octopus_text message = octopus->error->message(error);
    if (status != expected)
        fail(where, call, "gave status %d, not %d: %.*s", status, expected, (int)message.size,
             message.data ? message.data : "");
    if (place && (error != NULL) != (status < 0))
        fail(where, call, "status %d %s an error object", status, error ? "came with" : "came without");
    if (error && (octopus->error->code(error) != status || message.size == 0))
        fail(where, call, "the error tells of status %d, with %" PRIu64 " bytes of message",
             octopus->error->code(error), message.size);
    octopus->error->release(error);
}

/* The call names `error` as the place for its error. */
#define SUCCEEDS(call)                                             \
    do {                                                           \
        octopus_error *object_ = rubbish_pointer();                \
        octopus_error **error = &object_;                          \
        octopus_status status_ = (call);                           \
        settle(HERE, #call, OCTOPUS_OK, status_, error);       \
    } while (0)

/* Made twice: with a place for the error, and with NULL for it. */
#define GIVES(expected, call)                                                        \
    do {                                                                             \
        for (int pass_ = 0; pass_ < 2; pass_++) {                                    \
            octopus_error *object_ = rubbish_pointer();                              \
            octopus_error **error = pass_ == 0 ? &object_ : NULL;                    \
            memset(&out, RUBBISH_BYTE, sizeof out);                                  \
            octopus_status status_ = (call);                                         \
            settle(HERE, #call, (expected), status_, error);                     \
            if (!only_rubbish(&out, sizeof out))                                     \
                fail(HERE, #call, "wrote a result in spite of its status");      \
        }                                                                            \
    } while (0)

/* A build may lack slots. Those it has must all be tried: `check_all_tried` looks for one that was forgotten here. */
static const void *tried[2 * MANY];
static size_t tried_count;

static inline int was_tried(const void *slot)
{
    for (size_t at = 0; at < tried_count; at++)
        if (tried[at] == slot)
            return 1;
    return 0;
}

static inline int try_slot(const void *slot, int is_built)
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

static inline void check_all_tried(const char *noun, const void *table, size_t known)
{
    uint64_t size;
    memcpy(&size, table, sizeof size);
    for (size_t at = sizeof size; at < known && at < size; at += sizeof(void *)) {
        const char *slot = (const char *)table + at;
        void *function;
        memcpy(&function, slot, sizeof function);
        if (function && !was_tried(slot))
            fail(HERE, noun, "its slot at offset %zu is built and not tried here", at);
    }
}

static inline octopus_text text(const char *from)
{
    return (octopus_text){from, strlen(from)};
}

static inline octopus_bytes bytes(const char *from)
{
    return (octopus_bytes){(const uint8_t *)from, strlen(from)};
}

static inline int is(const char *expected, const void *data, uint64_t size)
{
    return size == strlen(expected) && (size == 0 || memcmp(expected, data, size) == 0);
}

/* ---- hosts' contexts: each must be destroyed once ------------------------------------------------------------- */

struct witness {
    atomic_int destroyed;
};

static struct witness witnesses[2 * MANY];
static size_t witness_count;

static inline struct witness *new_witness(void)
{
    EXPECT(witness_count < sizeof witnesses / sizeof *witnesses);
    return &witnesses[witness_count++];
}

static inline void note_destroyed(void *context)
{
    atomic_fetch_add(&((struct witness *)context)->destroyed, 1);
}

/* Reads what it is given to the last byte, for whoever watches over memory. */
static inline void read_message(void *context, int32_t level, octopus_text source, octopus_text message)
{
    static atomic_uint sum;
    (void)context;
    for (uint64_t at = 0; at < source.size + message.size; at++)
        atomic_fetch_add(&sum, (unsigned char)(at < source.size ? source.data[at] : message.data[at - source.size]));
    EXPECT(level >= OCTOPUS_LOG_ERROR && level <= OCTOPUS_LOG_TRACE);
}

/* Clients end in the background, so a context may be destroyed a moment after the last handle is released. */
static inline void await_count(struct witness *witness, int count, const char *where)
{
    const struct timespec moment = {.tv_nsec = 10000000};
    for (int patience = 0; patience < PATIENCE_MS / 10 && atomic_load(&witness->destroyed) < count; patience++)
        nanosleep(&moment, NULL);
    if (atomic_load(&witness->destroyed) != count)
        fail(where, "destroy", "was called %d times, not %d", atomic_load(&witness->destroyed), count);
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

static inline octopus_driver *new_driver(void)
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
    SUCCEEDS(octopus->future->wait(future, PATIENCE_MS, error));
    return future;
}

static inline octopus_event *event_of(const octopus_future *pull)
{
    octopus_event *event;
    SUCCEEDS(octopus->future->event(pull, &event, error));
    return event;
}

static inline struct scene new_scene(const char *topic, const char *data)
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

static inline void release_kind(struct scene *scene, int kind)
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

static inline void release_scene(struct scene *scene)
{
    for (int kind = 0; kind < KINDS; kind++)
        release_kind(scene, kind);
}

static inline void check_event(const octopus_event *event, const char *metadata, const char *data)
{
    octopus_event_view view = {.size = sizeof view};
    SUCCEEDS(octopus->event->view(event, &view, error));
    EXPECT(is(metadata, view.metadata.data, view.metadata.size));
    EXPECT(is(data, view.data.data, view.data.size));
}

/* ---- what hosts give the plugin ------------------------------------------------------------------------------- */

static inline int32_t stop(void *context, octopus_event *event)
{
    (void)context, (void)event;
    return OCTOPUS_PROCESS_STOP;
}

static inline octopus_status refuse_task(void *context, const octopus_task *task, uint64_t priority)
{
    (void)context, (void)task, (void)priority;
    return OCTOPUS_UNSUPPORTED;
}

static inline uint64_t none(void *context)
{
    (void)context;
    return 0;
}

static inline void do_nothing(void *context)
{
    (void)context;
}

/* ---- a careless host's run ------------------------------------------------------------------------------------ */

/* Everything after this runs on a library that its host has closed. */
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

/* Has the library that is named on the command line run all of `checks`, and all that it was given given back. */
static inline int run_all(int argc, char **argv, void (*checks)(void))
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s LIBRARY\n", argv[0]);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* so that a crash shows how far it came */
    register_and_unload(argv[1]);
    checks();
    for (size_t at = 0; at < witness_count; at++)
        await_count(&witnesses[at], 1, HERE);
    printf("each of %zu drivers has given its host's context back once\n", witness_count);
    return 0;
}

#endif
