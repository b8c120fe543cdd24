/*
 * Acknowledging and restarting, the program of docs/guide/acknowledging-and-restarting.md. It reads
 * a topic with four consumers of one name, one after the other; the second one crashes. Each starts
 * where the name's last commit is.
 *
 *     cc -std=c11 -I include -o target/acknowledging plugin-tests/examples/acknowledging.c -ldl
 *     OCTOPUS_LIBRARY=target/release/liboctopus.so target/acknowledging localhost:9092
 */
#define _POSIX_C_SOURCE 200809L

#include "octopus.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { READINGS = 10, NONE = READINGS, TIMEOUT_MS = 30000 };

static const octopus_api *octopus;
static octopus_error *error; /* of the last call; this program has one thread */

/* Ends the program with the call's error, unless the call succeeded. */
#define CHECK(call) check((call), #call)

static void check(octopus_status status, const char *call)
{
    if (status == OCTOPUS_OK)
        return;
    const octopus_text why = octopus->error->message(error); /* empty if there is no error object */
    fprintf(stderr, "%s\n  returned status %d: %.*s\n", call, status, (int)why.size,
            why.size ? why.data : "");
    exit(1);
}

/* Ends the program, unless it read what it should. */
static void expect(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "unexpected: %s\n", what);
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

static octopus_topic *open_topic(const char *servers, const char *name, int is_new)
{
    char config[512];
    const int size = snprintf(config, sizeof config, "{\"kafka\": {\"bootstrap.servers\": \"%s\"}}",
                              servers);
    expect(size >= 0 && (size_t)size < sizeof config, "the bootstrap servers are too long");
    octopus_driver *driver;
    CHECK(octopus->driver->create(text(config), NULL, &driver, &error));
    if (is_new) {
        octopus_create_topic_args args = {.size = sizeof args};
        args.options = OCTOPUS_TEXT("{\"num_partitions\": 1, \"replication_factor\": 1}");
        CHECK(octopus->driver->create_topic(driver, text(name), &args, &error));
    }
    octopus_topic *topic;
    CHECK(octopus->driver->open_topic(driver, text(name), &topic, &error));
    octopus->driver->release(driver); /* the topic keeps what it needs */
    return topic;
}

static void push_readings(const octopus_topic *topic)
{
    octopus_producer *producer;
    CHECK(octopus->topic->make_producer(topic, NULL, &producer, &error));
    for (int number = 0; number < READINGS; number++) {
        char json[32];
        const int size = snprintf(json, sizeof json, "{\"reading\": %d}", number);
        expect(size >= 0 && (size_t)size < sizeof json, "the metadata is too long");
        octopus_push_args event = {.size = sizeof event};
        event.metadata = (octopus_bytes){(const uint8_t *)json, (uint64_t)size};
        CHECK(octopus->producer->push(producer, &event, NULL, &error));
    }
    CHECK(octopus->producer->close(producer, TIMEOUT_MS, &error)); /* waits, and reports failures */
    octopus->producer->release(producer);
}

/* Makes a consumer of this name. The name is the consumer group. */
static octopus_consumer *make_consumer(const octopus_topic *topic, const char *name)
{
    octopus_consumer_args args = {.size = sizeof args, .name = text(name)};
    args.options = OCTOPUS_TEXT("{\"kafka\": {\"session.timeout.ms\": 6000}}");
    octopus_consumer *consumer;
    CHECK(octopus->topic->make_consumer(topic, &args, &consumer, &error));
    return consumer;
}

/* Reads the next event and checks its offset. The caller releases it. */
static octopus_event *read_event(const octopus_consumer *consumer, uint64_t expected)
{
    octopus_event *event;
    uint64_t count;
    CHECK(octopus->consumer->pull_many(consumer, 1, TIMEOUT_MS, &event, &count, &error));
    octopus_event_view view = {.size = sizeof view};
    CHECK(octopus->event->view(event, &view, &error));
    expect(view.id == expected, "another event than the next one");
    return event;
}

/* Reads the events from one offset to another, and acknowledges one of them, or none. */
static void read_events(const octopus_consumer *consumer, uint64_t first, uint64_t last,
                        uint64_t acknowledged)
{
    for (uint64_t offset = first; offset <= last; offset++) {
        octopus_event *event = read_event(consumer, offset);
        if (offset == acknowledged)
            CHECK(octopus->event->acknowledge(event, &error)); /* this one and all before it */
        octopus->event->release(event);
    }
    printf("  read events %d to %d, acknowledged ", (int)first, (int)last);
    if (acknowledged == NONE)
        printf("none\n");
    else
        printf("event %d\n", (int)acknowledged);
}

static void close_consumer(octopus_consumer *consumer)
{
    CHECK(octopus->consumer->close(consumer, TIMEOUT_MS, &error)); /* commits first */
    octopus->consumer->release(consumer);
}

/* Runs in a process of its own, which ends without closing anything. */
static void read_and_crash(const char *servers, const char *name)
{
    octopus_consumer *consumer = make_consumer(open_topic(servers, name, 0), name);
    read_events(consumer, 4, 6, 5);
    CHECK(octopus->consumer->commit(consumer, TIMEOUT_MS, &error)); /* now, not within a second */
    read_events(consumer, 7, 8, NONE);
    _exit(0); /* without a word to Kafka, as after SIGKILL */
}

static void print_positions(const octopus_consumer *consumer, uint64_t expected_position,
                            uint64_t expected_committed)
{
    uint64_t position, committed, lag;
    CHECK(octopus->consumer->position(consumer, 0, &position, &error));
    CHECK(octopus->consumer->committed(consumer, 0, &committed, &error));
    CHECK(octopus->consumer->lag(consumer, 0, &lag, &error));
    expect(position == expected_position && committed == expected_committed, "another position");
    expect(lag == READINGS - position, "another lag");
    printf("  position %d, committed %d, lag %d\n", (int)position, (int)committed, (int)lag);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: %s BOOTSTRAP-SERVERS\n", argv[0]), 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    load_library();
    char name[64];
    const int size = snprintf(name, sizeof name, "acknowledging-%ld-%ld", (long)time(NULL),
                              (long)getpid());
    expect(size >= 0 && (size_t)size < sizeof name, "the name is too long");
    octopus_topic *topic = open_topic(argv[1], name, 1);
    push_readings(topic);

    printf("first consumer\n");
    octopus_consumer *consumer = make_consumer(topic, name);
    read_events(consumer, 0, 5, 3);
    close_consumer(consumer);

    printf("second consumer, in a process that crashes\n");
    const pid_t child = fork();
    expect(child >= 0, "fork failed");
    if (child == 0)
        read_and_crash(argv[1], name);
    int ended;
    expect(waitpid(child, &ended, 0) == child && ended == 0,
           "the process failed before it crashed");

    printf("third consumer\n");
    const double start = seconds();
    consumer = make_consumer(topic, name);
    read_events(consumer, 6, 7, 7);
    printf("  waited %.0f s for its first event\n", seconds() - start);
    CHECK(octopus->consumer->commit(consumer, TIMEOUT_MS, &error));
    print_positions(consumer, 8, 8);
    CHECK(octopus->consumer->seek(consumer, 0, 2, &error));
    print_positions(consumer, 2, 8);
    read_events(consumer, 2, 4, 4);
    close_consumer(consumer);

    printf("fourth consumer\n");
    consumer = make_consumer(topic, name);
    read_events(consumer, 8, READINGS - 1, READINGS - 1);
    close_consumer(consumer);
    octopus->topic->release(topic);
    return 0;
}
