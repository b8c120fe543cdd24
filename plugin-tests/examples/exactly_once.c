/*
 * Forwards the events of one topic to another one in transactions.
 *
 *     cc -std=c11 -I include -o target/exactly_once plugin-tests/examples/exactly_once.c -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/exactly_once localhost:9092
 */
#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READINGS = 10, TIMEOUT_MS = 60000 };

static const octopus_api *octopus;
static octopus_error *error; /* of the last call; this program has one thread */

/* Ends the program with the error of the call, unless it succeeded. */
#define CHECK(call) check((call), #call)

static void check(octopus_status status, const char *call)
{
    if (status == OCTOPUS_OK)
        return;
    const octopus_text why = octopus->error->message(error); /* empty if there is no error object */
    fprintf(stderr, "%s\n  returned status %d: %.*s\n", call, (int)status, (int)why.size,
            why.size ? why.data : "");
    exit(1);
}

static octopus_text text(const char *from) { return (octopus_text){from, strlen(from)}; }

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

/* Pushes an event with the metadata of another one. */
static octopus_status push_result(const octopus_producer *results, const octopus_event *reading)
{
    octopus_event_view view = {.size = sizeof view};
    CHECK(octopus->event->view(reading, &view, &error));
    octopus_push_args result = {.size = sizeof result};
    result.metadata = (octopus_bytes){(const uint8_t *)view.metadata.data, view.metadata.size};
    return octopus->producer->push(results, &result, NULL, &error);
}

/* Commits the open transaction, unless its work has failed. If it can only be aborted, aborts it.
 * A call that timed out continues when it is repeated. */
static octopus_status end_transaction(const octopus_producer *results, octopus_status work)
{
    octopus_status status = work;
    if (work == OCTOPUS_OK)
        do
            status = octopus->producer->commit_transaction(results, -1, &error);
        while (status == OCTOPUS_TIMED_OUT);
    if (status != OCTOPUS_MUST_ABORT && status != OCTOPUS_STALE)
        return status;
    octopus->error->release(error);
    octopus_status aborted;
    do
        aborted = octopus->producer->abort_transaction(results, -1, &error);
    while (aborted == OCTOPUS_TIMED_OUT);
    return aborted == OCTOPUS_OK ? OCTOPUS_MUST_ABORT : aborted;
}

/* Forwards the events that are available in one transaction. Returns their number, which is 0 if
 * the transaction was aborted. */
static uint64_t forward(const octopus_consumer *readings, const octopus_producer *results)
{
    octopus_event *events[100];
    uint64_t count;
    octopus_status status = octopus->consumer->pull_many(readings, 100, 500, events, &count,
                                                         &error);
    if (status == OCTOPUS_TIMED_OUT)
        return 0;
    check(status, "pull_many");
    CHECK(octopus->producer->begin_transaction(results, &readings, 1, &error));
    for (uint64_t index = 0; index < count; index++) {
        if (status == OCTOPUS_OK)
            status = push_result(results, events[index]);
        if (status == OCTOPUS_OK)
            status = octopus->event->acknowledge(events[index], &error);
        octopus->event->release(events[index]);
    }
    status = end_transaction(results, status);
    if (status == OCTOPUS_MUST_ABORT)
        return 0;
    check(status, "end_transaction");
    return count;
}

static octopus_topic *open_topic(const octopus_driver *driver, const char *name)
{
    octopus_create_topic_args args = {.size = sizeof args};
    args.options = OCTOPUS_TEXT("{\"num_partitions\": 1, \"replication_factor\": 1}");
    const octopus_status created = octopus->driver->create_topic(driver, text(name), &args, &error);
    if (created == OCTOPUS_TOPIC_EXISTS)
        octopus->error->release(error); /* by an earlier run */
    else
        check(created, "create_topic");
    octopus_topic *topic;
    CHECK(octopus->driver->open_topic(driver, text(name), &topic, &error));
    return topic;
}

static void push_readings(const octopus_topic *topic)
{
    octopus_producer *instrument;
    CHECK(octopus->topic->make_producer(topic, NULL, &instrument, &error));
    const octopus_push_args event = {.size = sizeof event};
    for (int number = 0; number < READINGS; number++)
        CHECK(octopus->producer->push(instrument, &event, NULL, &error));
    CHECK(octopus->producer->close(instrument, TIMEOUT_MS, &error));
    octopus->producer->release(instrument);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS\n", argv[0]), 1;
    load_library();
    char config[512];
    const int size = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}",
                              argv[1]);
    if (size < 0 || (size_t)size >= sizeof config)
        return fprintf(stderr, "BOOTSTRAP-SERVERS is too long\n"), 1;
    octopus_driver *driver;
    CHECK(octopus->driver->create(text(config), NULL, &driver, &error));
    octopus_topic *from = open_topic(driver, "exactly-once-c-readings");
    octopus_topic *to = open_topic(driver, "exactly-once-c-results");
    push_readings(from);

    octopus_producer_args producer_args = {.size = sizeof producer_args};
    producer_args.options = OCTOPUS_TEXT("{\"transactional_id\": \"exactly-once-c\"}");
    octopus_producer *results;
    CHECK(octopus->topic->make_producer(to, &producer_args, &results, &error));
    octopus_consumer_args consumer_args = {.size = sizeof consumer_args,
                                           .name = OCTOPUS_TEXT("exactly-once-c")};
    consumer_args.options = OCTOPUS_TEXT("{\"commits\": \"transaction\"}");
    octopus_consumer *readings;
    CHECK(octopus->topic->make_consumer(from, &consumer_args, &readings, &error));
    uint64_t count = 0;
    while (count < READINGS)
        count += forward(readings, results);
    printf("%d events forwarded\n", (int)count);

    CHECK(octopus->producer->close(results, TIMEOUT_MS, &error));
    CHECK(octopus->consumer->close(readings, TIMEOUT_MS, &error));
    octopus->producer->release(results);
    octopus->consumer->release(readings);
    octopus->topic->release(to);
    octopus->topic->release(from);
    octopus->driver->release(driver);
    return 0;
}
