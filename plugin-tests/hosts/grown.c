/*
 * A host that is built with an older header, the current one or a newer one.
 * plugin-tests/tests/suite/growing.rs makes these headers and defines OLDER or NEWER. Each struct
 * ends at an inaccessible page. The fields that only a newer header has are filled with FILL_BYTE.
 *
 *     grown LIBRARY BOOTSTRAP TOPIC
 */
#include "octopus.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MANY = 5, TIMEOUT_MS = 60000, FILL_BYTE = 0xAA };

static const octopus_api *octopus;

#define EXPECT(condition) expect((condition), #condition, __LINE__)
static void expect(int holds, const char *what, int line)
{
    if (holds)
        return;
    fprintf(stderr, "grown.c:%d: failed: %s\n", line, what);
    exit(1);
}

#define SUCCEEDS(call)                                                    \
    do {                                                                  \
        octopus_error *object_ = NULL, **error = &object_;                \
        octopus_status status_ = (call);                                  \
        octopus_text why_ = octopus->error->message(object_);             \
        if (status_ != OCTOPUS_OK)                                        \
            fprintf(stderr, "status %d: %.*s\n", status_, (int)why_.size, \
                    why_.size > 0 ? why_.data : "");                      \
        expect(status_ == OCTOPUS_OK, #call, __LINE__);                   \
    } while (0)

/* The library's table is larger than that of an older header and smaller than that of a newer
 * one. */
#ifdef OLDER
#define TABLE(noun) EXPECT(octopus->noun->size > sizeof *octopus->noun)
#elif defined NEWER
#define TABLE(noun) \
    EXPECT(octopus->noun->size < sizeof *octopus->noun && !OCTOPUS_HAS(octopus->noun, invented))
#else
#define TABLE(noun) EXPECT(octopus->noun->size == sizeof *octopus->noun)
#endif

/* Allocates `count` zeroed structs, with their sizes set, directly before an inaccessible page. */
static void *at_the_edge(size_t size, size_t count)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(pages != MAP_FAILED && mprotect(pages + page, page, PROT_NONE) == 0 &&
           size * count <= page);
    char *first = pages + page - size * count;
    for (size_t at = 0; at < count; at++) {
        uint64_t own_size = size;
        memcpy(first + at * size, &own_size, sizeof own_size);
    }
    return first;
}

#ifdef NEWER
#define NEW(type) fill_unknown(at_the_edge(sizeof(type), 1), sizeof(type), offsetof(type, invented))
static void *fill_unknown(void *made, size_t size, size_t known)
{
    memset((char *)made + known, FILL_BYTE, size - known);
    return made;
}
#else
#define NEW(type) at_the_edge(sizeof(type), 1)
#endif

static octopus_text text(const char *from) { return (octopus_text){from, strlen(from)}; }
static octopus_bytes bytes(const char *from)
{
    return (octopus_bytes){(const uint8_t *)from, strlen(from)};
}

static atomic_int logged, validated;

static void note(void *context, int32_t level, octopus_text source, octopus_text message)
{
    (void)context, (void)level, (void)source, (void)message;
    atomic_fetch_add(&logged, 1);
}

static octopus_status make(void *context, octopus_text json, void **made,
                           const octopus_component_reply *reply)
{
    (void)json, (void)reply;
    *made = context;
    return OCTOPUS_OK;
}

static octopus_status validate(void *instance, octopus_text metadata, const octopus_bytes *segments,
                               uint64_t count, const octopus_component_reply *reply)
{
    (void)instance, (void)metadata, (void)segments, (void)count;
    EXPECT(reply->size >= 32); /* the plugin's own struct, so never smaller */
    atomic_fetch_add(&validated, 1);
    return OCTOPUS_OK;
}

static octopus_topic *open(const char *bootstrap, const char *name)
{
    char config[512];
    snprintf(config, sizeof config,
             "{\"kafka\": {\"bootstrap.servers\": \"%s\"}, \"open_retry_ms\": 0}", bootstrap);
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_host_services *services = NEW(octopus_host_services);
    services->log.function = note;
    SUCCEEDS(octopus->driver->create(text(config), services, &driver, error));
    octopus_component *component = NEW(octopus_component);
    component->make = make;
    component->validate = validate;
    SUCCEEDS(octopus->driver->register_component(driver, OCTOPUS_ROLE_VALIDATOR, text("own"),
                                                 component, error));
    octopus_create_topic_args *args = NEW(octopus_create_topic_args);
    args->options = text("{\"num_partitions\": 2, \"replication_factor\": 1}");
    args->validator = text("{\"type\": \"own\"}");
    SUCCEEDS(octopus->driver->create_topic(driver, text(name), args, error));
    SUCCEEDS(octopus->driver->open_topic(driver, text(name), &topic, error));
    return topic;
}

/* Pushes an array whose stride is the size of this host's struct. */
static void push_several(const octopus_producer *producer)
{
    static const char *const data[MANY] = {"0", "1", "2", "3", "4"};
    octopus_bytes segments[MANY];
    octopus_future *futures[MANY];
    octopus_push_args *events = at_the_edge(sizeof *events, MANY);
    uint64_t pushed = 0;
    for (size_t at = 0; at < MANY; at++) {
        segments[at] = bytes(data[at]);
        events[at].segments = &segments[at];
        events[at].segment_count = 1;
        events[at].has_partition = 1;
        events[at].partition = at % 2;
#ifdef NEWER
        memset(&events[at].invented, FILL_BYTE,
               sizeof events[at] - offsetof(octopus_push_args, invented));
#endif
    }
    SUCCEEDS(octopus->producer->push_many(producer, events, MANY, futures, &pushed, error));
    EXPECT(pushed == MANY);
    for (size_t at = 0; at < MANY; at++) {
        uint32_t partition = 9;
        uint64_t id = 9;
        SUCCEEDS(octopus->future->wait(futures[at], TIMEOUT_MS, error));
        SUCCEEDS(octopus->future->partition(futures[at], &partition, error));
        SUCCEEDS(octopus->future->event_id(futures[at], &id, error));
        EXPECT(partition == at % 2 && id == at / 2);
    }
    events[2].size -= 8; /* no longer the stride of the array */
    octopus_status status = octopus->producer->push_many(producer, events, MANY, futures, &pushed,
                                                         NULL);
    EXPECT(status == OCTOPUS_INVALID_ARGUMENT && pushed == 2);
    SUCCEEDS(octopus->future->wait(futures[1], TIMEOUT_MS, error));
}

static void push_one(const octopus_producer *producer)
{
    octopus_future *future;
    octopus_push_args *event = NEW(octopus_push_args);
    event->metadata = bytes("\"alone\"");
    SUCCEEDS(octopus->producer->push(producer, event, &future, error));
    SUCCEEDS(octopus->future->wait(future, TIMEOUT_MS, error));
}

/* The plugin writes the fields that both this host and the plugin know. */
static void check_event(const octopus_event *event)
{
    octopus_event_view *view = NEW(octopus_event_view);
    SUCCEEDS(octopus->event->view(event, view, error));
    EXPECT(view->size == sizeof *view && view->timestamp_ms > 0);
    if (view->data.size == 1) {
        uint64_t number = view->data.data[0] - '0'; /* 0 and 1 were pushed twice */
        EXPECT(number < MANY && (view->id == number / 2 || (number < 2 && view->id == 3 - number)));
    } else {
        EXPECT(view->metadata.size == 7 && memcmp(view->metadata.data, "\"alone\"", 7) == 0);
    }
#ifdef NEWER
    const unsigned char *rest = (const unsigned char *)&view->invented;
    for (size_t at = 0; at < sizeof *view - offsetof(octopus_event_view, invented); at++)
        EXPECT(rest[at] == FILL_BYTE);
#endif
}

int main(int argc, char **argv)
{
    void *library = argc == 4 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const octopus_api *(*entry)(uint32_t) = NULL;
    *(void **)&entry = library ? dlsym(library, "octopus_register") : NULL;
    if (!entry)
        return fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP TOPIC\n", argv[0]), 1;
    EXPECT(entry(OCTOPUS_ABI_MAJOR + 1) == NULL && entry(UINT32_MAX) == NULL);
    octopus = entry(OCTOPUS_ABI_MAJOR);
    EXPECT(octopus && octopus->abi_major == OCTOPUS_ABI_MAJOR &&
           octopus->abi_minor == OCTOPUS_ABI_MINOR);
    TABLE(error);
    TABLE(string);
    TABLE(driver);
    TABLE(topic);
    TABLE(producer);
    TABLE(consumer);
    TABLE(future);
    TABLE(event);
#ifdef OLDER
    EXPECT(octopus->size > sizeof *octopus);
#else
    TABLE(thread_pool);
#endif

    octopus_producer *producer;
    octopus_consumer *consumer;
    octopus_topic *topic = open(argv[2], argv[3]);
    octopus_producer_args *producer_args = NEW(octopus_producer_args);
    producer_args->ordering = OCTOPUS_ORDERING_STRICT;
    octopus_consumer_args *consumer_args = NEW(octopus_consumer_args);
    consumer_args->name = text(argv[3]);
    SUCCEEDS(octopus->topic->make_producer(topic, producer_args, &producer, error));
    SUCCEEDS(octopus->topic->make_consumer(topic, consumer_args, &consumer, error));
    push_several(producer);
    push_one(producer);

    enum { ALL = MANY + 2 + 1 };
    octopus_event *events[ALL];
    for (uint64_t taken = 0, count = 0; taken < ALL; taken += count)
        SUCCEEDS(octopus->consumer->pull_many(consumer, ALL - taken, TIMEOUT_MS, events + taken,
                                              &count, error));
    for (size_t at = 0; at < ALL; at++)
        check_event(events[at]);
    EXPECT(atomic_load(&validated) == ALL);
    SUCCEEDS(octopus->producer->close(producer, TIMEOUT_MS, error));
    SUCCEEDS(octopus->consumer->close(consumer, TIMEOUT_MS, error));
    printf("%d events\n", ALL);
    return 0;
}
