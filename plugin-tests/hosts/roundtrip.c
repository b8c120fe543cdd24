/*
 * A host in C, to learn the ABI from: it opens the library, pushes numbered events into the three partitions of a new
 * topic without waiting for each, and reads all of them back. It needs nothing of Octopus but include/octopus.h.
 *
 *     cc -std=c11 -I include -o roundtrip plugin-tests/hosts/roundtrip.c -ldl
 *     ./roundtrip target/release/liboctopus.so localhost:9092 a-new-topic a-group [events]
 */

#include "octopus.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARTITIONS = 3, PATIENCE_MS = 60000 };

/* The whole plugin: one table of functions per noun. */
static const octopus_api *octopus;

/* A call that must succeed; it names `error` as its last argument. A negative status comes with an error object. */
#define CHECK(call)                                                                                              \
    do {                                                                                                         \
        octopus_error *error;                                                                                    \
        octopus_status status = (call);                                                                          \
        if (status != OCTOPUS_OK) {                                                                              \
            octopus_text why = octopus->error->message(error); /* of NULL, as for OCTOPUS_TIMED_OUT: empty */    \
            fprintf(stderr, "%s\ngave %d: %.*s\n", #call, status, (int)why.size, why.size ? why.data : "");      \
            octopus->error->release(error);                                                                      \
            exit(1);                                                                                             \
        }                                                                                                        \
    } while (0)

static void open_library(const char *path)
{
    const octopus_api *(*register_octopus)(uint32_t);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, "octopus_register") : NULL;
    if (symbol) {
        memcpy(&register_octopus, &symbol, sizeof symbol); /* C has no cast from data to functions */
        octopus = register_octopus(OCTOPUS_ABI_MAJOR);
    }
    if (!octopus || octopus->abi_minor != OCTOPUS_ABI_MINOR) { /* in major 0 both sides must match exactly */
        fprintf(stderr, "no Octopus of this header's version: %s\n", symbol ? path : dlerror());
        exit(1);
    }
}

/* A text as the ABI passes it: bytes and their number, no NUL needed. */
static octopus_text text(const char *from)
{
    return (octopus_text){from, strlen(from)};
}

/* What the event of this number consists of. */
struct content {
    char metadata[64], data[64];
};

static struct content content_of(uint64_t number)
{
    struct content content;
    snprintf(content.metadata, sizeof content.metadata, "{\"number\":%" PRIu64 "}", number);
    snprintf(content.data, sizeof content.data, "the data of event %" PRIu64, number);
    return content;
}

static void push(const octopus_producer *producer, uint64_t number)
{
    struct content content = content_of(number);
    octopus_bytes data = {(const uint8_t *)content.data, strlen(content.data)};
    octopus_push_args event = {
        .size = sizeof event, /* in every struct, so that either side may know more fields than the other */
        .metadata = {(const uint8_t *)content.metadata, strlen(content.metadata)},
        .segments = &data,
        .segment_count = 1,
        .partition = number % PARTITIONS,
        .has_partition = 1,
    };
    /* The bytes are copied before push returns. NULL: no future for this one, the flush tells of all events. */
    CHECK(octopus->producer->push(producer, &event, NULL, &error));
}

static void read_next(const octopus_consumer *consumer, uint64_t expected[PARTITIONS])
{
    octopus_future *ticket; /* an event is taken only by the wait that returns it */
    octopus_event *event;
    octopus_event_view view = {.size = sizeof view};
    CHECK(octopus->consumer->pull(consumer, &ticket, &error));
    CHECK(octopus->future->wait(ticket, PATIENCE_MS, &error));
    CHECK(octopus->future->event(ticket, &event, &error));
    CHECK(octopus->event->view(event, &view, &error));

    struct content content = content_of(expected[view.partition % PARTITIONS]);
    if (view.metadata.size != strlen(content.metadata) || view.data.size != strlen(content.data) ||
        memcmp(view.metadata.data, content.metadata, view.metadata.size) != 0 ||
        memcmp(view.data.data, content.data, view.data.size) != 0) {
        fprintf(stderr, "partition %" PRIu32 ", offset %" PRIu64 ": %.*s, where %s should be\n", view.partition, view.id,
                (int)view.metadata.size, view.metadata.data, content.metadata);
        exit(1);
    }
    expected[view.partition % PARTITIONS] += PARTITIONS;

    CHECK(octopus->event->acknowledge(event, &error)); /* the next reader of this group starts after it */
    octopus->event->release(event);                    /* and with it what the view points to */
    octopus->future->release(ticket);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP-SERVERS NEW-TOPIC GROUP [EVENTS]\n", argv[0]);
        return 1;
    }
    uint64_t count = argc > 5 ? strtoull(argv[5], NULL, 10) : 10000;
    open_library(argv[1]);

    char config[512];
    snprintf(config, sizeof config, "{\"kafka\":{\"bootstrap.servers\":\"%s\"}}", argv[2]);
    octopus_driver *driver;
    CHECK(octopus->driver->create(text(config), NULL, &driver, &error));

    const octopus_text options = OCTOPUS_TEXT("{\"num_partitions\":3,\"replication_factor\":1}");
    octopus_create_topic_args topic_args = {.size = sizeof topic_args, .options = options};
    octopus_topic *topic;
    CHECK(octopus->driver->create_topic(driver, text(argv[3]), &topic_args, &error));
    CHECK(octopus->driver->open_topic(driver, text(argv[3]), &topic, &error));

    octopus_producer *producer;
    octopus_future *delivered;
    CHECK(octopus->topic->make_producer(topic, NULL, &producer, &error));
    for (uint64_t number = 0; number < count; number++)
        push(producer, number);
    CHECK(octopus->producer->flush(producer, &delivered, &error));
    CHECK(octopus->future->wait(delivered, PATIENCE_MS, &error));

    octopus_consumer_args consumer_args = {.size = sizeof consumer_args, .name = text(argv[4])};
    octopus_consumer *consumer;
    CHECK(octopus->topic->make_consumer(topic, &consumer_args, &consumer, &error));
    uint64_t expected[PARTITIONS] = {0, 1, 2};
    for (uint64_t seen = 0; seen < count; seen++)
        read_next(consumer, expected);
    CHECK(octopus->consumer->commit(consumer, PATIENCE_MS, &error));

    CHECK(octopus->consumer->close(consumer, PATIENCE_MS, &error));
    CHECK(octopus->producer->close(producer, PATIENCE_MS, &error));
    octopus->driver->release(driver); /* each handle keeps alive what it needs, so the order is free */
    octopus->topic->release(topic);
    octopus->producer->release(producer);
    octopus->consumer->release(consumer);
    octopus->future->release(delivered);
    printf("%" PRIu64 " events in %d partitions, each in its place and in order\n", count, PARTITIONS);
    return 0;
}
