/*
 * A program without memory for a large event: pushing and pulling it fail with a status that names the limit, nothing aborts,
 * and once there is memory the event is pushed and pulled.
 *
 *     memory LIBRARY CONFIG TOPIC
 */
#include "host.h"

#include <malloc.h>
#include <sys/resource.h>

#define LARGE (16 * 1024 * 1024)
/* For all that is small: in blocks that are kept when they are given back. */
#define ROOM (8 * 1024 * 1024)
#define BLOCK (64 * 1024)

static const octopus_api *octopus;
static uint8_t data[LARGE];

/* Bytes of address space, which RLIMIT_AS limits: the first number of proc_pid_statm(5), which counts pages. */
static rlim_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void make_room(void)
{
    static void *blocks[ROOM / BLOCK];
    EXPECT(mallopt(M_TRIM_THRESHOLD, 16 * ROOM) == 1);
    for (size_t at = 0; at < ROOM / BLOCK; at++)
        EXPECT((blocks[at] = malloc(BLOCK)) != NULL);
    for (size_t at = 0; at < ROOM / BLOCK; at++)
        free(blocks[at]);
}

static void set_limit(rlim_t bytes)
{
    struct rlimit limit = {bytes, RLIM_INFINITY};
    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void expect_limit(octopus_status status, octopus_error *error)
{
    octopus_text message = octopus->error->message(error);
    if (status != OCTOPUS_RESOURCE_LIMIT)
        fprintf(stderr, "status %d: %.*s\n", status, (int)message.size, message.size ? message.data : "");
    EXPECT(status == OCTOPUS_RESOURCE_LIMIT && octopus->error->retriable(error));
    EXPECT(strstr(message.data, "ulimit -v") != NULL);
    octopus->error->release(error);
}

static octopus_status push_large(const octopus_producer *producer, octopus_future **future, octopus_error **error)
{
    octopus_bytes bytes = {data, sizeof data};
    octopus_push_args event;
    memset(&event, 0, sizeof event);
    event.size = sizeof event;
    event.metadata = (octopus_bytes){(const uint8_t *)"1", 1};
    event.segments = &bytes;
    event.segment_count = 1;
    return octopus->producer->push(producer, &event, future, error);
}

/* What an earlier limit was the cause of may be reported first. */
static void pull_large(const octopus_consumer *consumer)
{
    octopus_event *event = NULL;
    uint64_t count = 0;
    for (int seconds = 0; octopus->consumer->pull_many(consumer, 1, 1000, &event, &count, NULL) != OCTOPUS_OK; seconds++)
        EXPECT(seconds < 30);
    octopus_event_view view;
    memset(&view, 0, sizeof view);
    view.size = sizeof view;
    SUCCEEDS(octopus, octopus->event->view(event, &view, error));
    EXPECT(view.data.size == sizeof data && memcmp(view.data.data, data, sizeof data) == 0);
    octopus->event->release(event);
}

int main(int argc, char **argv)
{
    EXPECT(argc == 4);
    /* Large blocks are pieces of address space of their own, also after one was given back; and no thread has an arena, which would
     * have room for one. */
    EXPECT(mallopt(M_MMAP_THRESHOLD, 1024 * 1024) == 1 && mallopt(M_ARENA_MAX, 1) == 1);
    for (size_t at = 0; at < sizeof data; at++)
        data[at] = (uint8_t)(at % 251);
    octopus = load(argv[1]);
    octopus_driver *driver = make_driver(octopus, argv[2], NULL);
    octopus_topic *topic = NULL;
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(argv[3]), &topic, error));
    octopus_producer *producer = make_producer(octopus, topic);
    octopus_consumer *consumer = make_consumer(octopus, topic, argv[3]);
    deliver(octopus, producer, 1);
    EXPECT(pull(octopus, consumer) == 1);

    octopus_future *future = NULL;
    octopus_error *error = NULL;
    make_room();
    set_limit(address_space());
    octopus_status status = push_large(producer, &future, &error);
    expect_limit(status, error);
    EXPECT(future == NULL);
    set_limit(RLIM_INFINITY);

    /* It lingers until the limit is set again, so that there is no memory to compress it. */
    SUCCEEDS(octopus, push_large(producer, &future, error));
    set_limit(address_space() - LARGE);
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    set_limit(RLIM_INFINITY);
    pull_large(consumer);

    /* As it was compressed, if it is to be. */
    SUCCEEDS(octopus, push_large(producer, &future, error));
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    pull_large(consumer);

    octopus_event *event = NULL;
    uint64_t count = 0;
    /* The response that was read last may still be there. */
    set_limit(address_space() - LARGE);
    SUCCEEDS(octopus, octopus->consumer->seek(consumer, 0, 2, error));
    for (int seconds = 0; (status = octopus->consumer->pull_many(consumer, 1, 1000, &event, &count, &error)) ==
                          OCTOPUS_TIMED_OUT; seconds++)
        EXPECT(seconds < 30);
    expect_limit(status, error);
    EXPECT(count == 0);
    set_limit(RLIM_INFINITY);
    pull_large(consumer);
    octopus->consumer->release(consumer);
    octopus->producer->release(producer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    printf("the event came when there was memory\n");
    return 0;
}
