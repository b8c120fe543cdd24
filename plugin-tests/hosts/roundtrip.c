/*
 * A host in C: it loads the library, pushes events with data to three partitions of a new topic,
 * and pulls them back.
 *
 *     cc -std=c11 -I include -o roundtrip plugin-tests/hosts/roundtrip.c -ldl
 *     ./roundtrip target/release/liboctopus.so localhost:9092 a-new-topic a-group [events]
 */
#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const octopus_api *octopus; /* the plugin's functions: one table per noun */

static void check(const char *call, octopus_status status, octopus_error *error)
{
    if (status == OCTOPUS_OK)
        return;
    octopus_text why = octopus->error->message(
        error); /* empty for NULL, which OCTOPUS_TIMED_OUT has */
    fprintf(stderr, "%s: status %d: %.*s\n", call, status, (int)why.size, why.size ? why.data : "");
    exit(1);
}
#define CHECK(call) (status = (call), check(#call, status, error))

int main(int argc, char **argv)
{
    void *library = argc > 4 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const octopus_api *(*register_octopus)(uint32_t) = NULL;
    *(void **)&register_octopus = library ? dlsym(library, "octopus_register") : NULL;
    if (!register_octopus || !(octopus = register_octopus(OCTOPUS_ABI_MAJOR)))
        return fprintf(stderr, "usage: %s LIBRARY BOOTSTRAP-SERVERS NEW-TOPIC GROUP [EVENTS]\n",
                       argv[0]),
               1;
    const uint64_t count = argc > 5 ? strtoull(argv[5], NULL, 10) : 10000, partitions = 3;
    const octopus_text topic_name = {argv[3], strlen(argv[3])}, group = {argv[4], strlen(argv[4])};
    octopus_status status;
    octopus_error *error;

    char config[512];
    int size = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}",
                        argv[2]);
    octopus_driver *driver;
    CHECK(octopus->driver->create((octopus_text){config, size}, NULL, &driver, &error));
    octopus_create_topic_args topic_args = {.size = sizeof topic_args};
    topic_args.options = OCTOPUS_TEXT("{\"num_partitions\": 3, \"replication_factor\": 1}");
    octopus_topic *topic;
    CHECK(octopus->driver->create_topic(driver, topic_name, &topic_args, &error));
    CHECK(octopus->driver->open_topic(driver, topic_name, &topic, &error));

    octopus_producer *producer;
    CHECK(octopus->topic->make_producer(topic, NULL, &producer, &error));
    for (uint64_t number = 0; number < count; number++) {
        char json[32];
        const octopus_bytes metadata = {
            (const uint8_t *)json, snprintf(json, sizeof json, "{\"number\":%d}", (int)number)};
        const octopus_bytes data = {(const uint8_t *)&number, sizeof number};
        octopus_push_args event = {
            .size = sizeof event, .metadata = metadata, .segments = &data, .segment_count = 1};
        event.partition = number % partitions, event.has_partition = 1;
        CHECK(octopus->producer->push(producer, &event, NULL,
                                      &error)); /* no future: the flush reports failures */
    }
    octopus_future *delivered;
    CHECK(octopus->producer->flush(producer, &delivered, &error));
    CHECK(octopus->future->wait(delivered, 60000, &error));

    octopus_consumer_args consumer_args = {.size = sizeof consumer_args, .name = group};
    octopus_consumer *consumer;
    CHECK(octopus->topic->make_consumer(topic, &consumer_args, &consumer, &error));
    for (uint64_t seen = 0, next[3] = {0, 1, 2}; seen < count; seen++) {
        octopus_future *pending; /* takes an event only in the wait that returns it */
        octopus_event *event;
        octopus_event_view view = {.size = sizeof view};
        CHECK(octopus->consumer->pull(consumer, &pending, &error));
        CHECK(octopus->future->wait(pending, 60000, &error));
        CHECK(octopus->future->event(pending, &event, &error));
        CHECK(octopus->event->view(event, &view, &error));
        if (view.partition >= partitions || view.data.size != sizeof(uint64_t) ||
            memcmp(view.data.data, &next[view.partition], sizeof(uint64_t)) != 0)
            return fprintf(stderr, "unexpected event at offset %d of partition %d\n", (int)view.id,
                           (int)view.partition),
                   1;
        next[view.partition] += partitions;
        CHECK(octopus->event->acknowledge(
            event, &error)); /* the next consumer of this group starts after it */
        octopus->event->release(event);
        octopus->future->release(pending);
    }
    CHECK(octopus->consumer->close(consumer, 60000, &error));
    CHECK(octopus->producer->close(producer, 60000, &error));
    octopus->driver->release(
        driver); /* handles may be released in any order: each keeps what it needs */
    octopus->topic->release(topic);
    octopus->producer->release(producer);
    octopus->consumer->release(consumer);
    octopus->future->release(delivered);
    printf("%d events in 3 partitions, each in its place and in order\n", (int)count);
    return 0;
}
