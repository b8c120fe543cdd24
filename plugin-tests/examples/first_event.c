/*
 * The first event: creates a topic, pushes an event, and reads it back.
 *
 *     cc -std=c11 -I include -o target/first_event plugin-tests/examples/first_event.c -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/first_event localhost:9092
 */
#include "octopus.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Longer than the 45 s for which Kafka waits for a reader that ended without closing. */
enum { TIMEOUT_MS = 60000 };

static const octopus_api *octopus;
static octopus_error *error; /* of the last call; this program has one thread */

/* Ends the program with the error of the call, unless it succeeded. */
#define CHECK(call) check((call), #call)

static void check(octopus_status status, const char *call)
{
    if (status == OCTOPUS_OK)
        return;
    if (status == OCTOPUS_TIMED_OUT) { /* which has no error object */
        fprintf(stderr, "%s\n  timed out\n", call);
        exit(1);
    }
    const octopus_text why = octopus->error->message(error);
    fprintf(stderr, "%s\n  returned status %d: %.*s\n", call, (int)status, (int)why.size, why.data);
    exit(1);
}

static void load_library(void)
{
    const char *path = getenv("OCTOPUS_LIBRARY");
    void *library = dlopen(path ? path : "liboctopus.so", RTLD_NOW | RTLD_LOCAL);
    const octopus_api *(*entry)(uint32_t) = NULL;
    if (library)
        *(void **)&entry = dlsym(library, "octopus_register");
    octopus = entry ? entry(OCTOPUS_ABI_MAJOR) : NULL;
    if (octopus && octopus->abi_minor == OCTOPUS_ABI_MINOR)
        return;
    fprintf(stderr, "loading Octopus: %s\n",
            entry ? "the library has another version than octopus.h" : dlerror());
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS\n", argv[0]), 1;
    load_library();

    /* A driver has the configuration. One replica, as a Kafka for a first try has one broker. */
    char config[512];
    const int size = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}",
                              argv[1]);
    if (size < 0 || (size_t)size >= sizeof config)
        return fprintf(stderr, "BOOTSTRAP-SERVERS is too long\n"), 1;
    octopus_driver *driver;
    CHECK(octopus->driver->create((octopus_text){config, strlen(config)}, NULL, &driver, &error));
    const octopus_text name = OCTOPUS_TEXT("first-event");
    octopus_create_topic_args options = {.size = sizeof options};
    options.options = OCTOPUS_TEXT("{\"num_partitions\": 1, \"replication_factor\": 1}");
    const octopus_status created = octopus->driver->create_topic(driver, name, &options, &error);
    if (created == OCTOPUS_TOPIC_EXISTS)
        octopus->error->release(error); /* by an earlier run */
    else
        check(created, "octopus->driver->create_topic");
    octopus_topic *topic;
    CHECK(octopus->driver->open_topic(driver, name, &topic, &error));

    /* An event has metadata, which is JSON, and data, which is any bytes. */
    static const char metadata[] = "{\"sensor\": \"roof\", \"celsius\": 21.5}";
    const octopus_bytes data = {(const uint8_t *)"raw samples", 11};
    octopus_push_args new_event = {.size = sizeof new_event, .segments = &data, .segment_count = 1};
    new_event.metadata = (octopus_bytes){(const uint8_t *)metadata, strlen(metadata)};
    octopus_producer *producer;
    CHECK(octopus->topic->make_producer(topic, NULL, &producer, &error));

    /* `push` returns before the event is stored, `wait` when it is. */
    octopus_future *push;
    CHECK(octopus->producer->push(producer, &new_event, &push, &error));
    CHECK(octopus->future->wait(push, TIMEOUT_MS, &error));
    uint64_t offset;
    CHECK(octopus->future->event_id(push, &offset, &error));
    if (offset == OCTOPUS_EVENT_ID_UNKNOWN) /* the response that had it was lost */
        printf("stored at an unknown offset\n");
    else
        printf("stored at offset %" PRIu64 "\n", offset);

    /* The name of a consumer is its consumer group, which Kafka keeps the position of. */
    const octopus_consumer_args reader = {.size = sizeof reader,
                                          .name = OCTOPUS_TEXT("first-event-reader")};
    octopus_consumer *consumer;
    CHECK(octopus->topic->make_consumer(topic, &reader, &consumer, &error));
    octopus_future *pull;
    CHECK(octopus->consumer->pull(consumer, &pull, &error));
    CHECK(octopus->future->wait(pull, TIMEOUT_MS, &error));
    octopus_event *event;
    CHECK(octopus->future->event(pull, &event, &error));
    octopus_event_view view = {.size = sizeof view};
    CHECK(octopus->event->view(event, &view, &error));
    printf("read offset %" PRIu64 ": %.*s with %" PRIu64 " bytes of data\n", view.id,
           (int)view.metadata.size, view.metadata.data, view.data.size);
    CHECK(octopus->event->acknowledge(event, &error)); /* the next run starts after it */
    CHECK(octopus->consumer->close(consumer, TIMEOUT_MS, &error));
    CHECK(octopus->producer->close(producer, TIMEOUT_MS, &error));

    octopus->event->release(event);
    octopus->future->release(pull);
    octopus->consumer->release(consumer);
    octopus->future->release(push);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    return 0;
}
