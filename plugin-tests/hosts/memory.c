/*
 * A program that has no memory for a large event. Pushing and pulling the event fail with a status
 * and a message that names the limit, and nothing aborts. Once there is memory, the event is pushed
 * and pulled.
 *
 *     memory LIBRARY CONFIG TOPIC
 */
#include "host.h"

#include <malloc.h>
#include <sys/resource.h>

#define LARGE (16 * 1024 * 1024)
/* Reserved for small allocations: the allocator keeps these blocks when they are freed. */
#define RESERVE (8 * 1024 * 1024)
#define BLOCK (64 * 1024)

static const octopus_api *octopus;
static uint8_t data[LARGE];

/* Returns the size of the address space, which RLIMIT_AS limits, from the first field of
 * proc_pid_statm(5), which counts pages. */
static rlim_t address_space(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static void reserve_memory(void)
{
    static void *blocks[RESERVE / BLOCK];
    EXPECT(mallopt(M_TRIM_THRESHOLD, 16 * RESERVE) == 1);
    for (size_t at = 0; at < RESERVE / BLOCK; at++)
        EXPECT((blocks[at] = malloc(BLOCK)) != NULL);
    for (size_t at = 0; at < RESERVE / BLOCK; at++)
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
        fprintf(stderr, "status %d: %.*s\n", status, (int)message.size,
                message.size ? message.data : "");
    EXPECT(status == OCTOPUS_RESOURCE_LIMIT && octopus->error->retriable(error));
    EXPECT(strstr(message.data, "ulimit -v") != NULL);
    octopus->error->release(error);
}

static octopus_status push_large(const octopus_producer *producer, octopus_future **future,
                                 octopus_error **error)
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

/* Pulls the event. An error that an earlier limit caused may be reported first. */
static void pull_large(const octopus_consumer *consumer)
{
    octopus_event *event = NULL;
    uint64_t count = 0;
    for (int seconds = 0;
         octopus->consumer->pull_many(consumer, 1, 1000, &event, &count, NULL) != OCTOPUS_OK;
         seconds++)
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
    /* Has malloc map each large block separately, also after one was freed, and use one arena,
     * since the arena of a thread could have space for a large block. */
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
    reserve_memory();
    set_limit(address_space());
    octopus_status status = push_large(producer, &future, &error);
    expect_limit(status, error);
    EXPECT(future == NULL);
    set_limit(RLIM_INFINITY);

    /* The event lingers until the limit is set again, so that there is no memory to compress it. */
    SUCCEEDS(octopus, push_large(producer, &future, error));
    set_limit(address_space() - LARGE);
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    set_limit(RLIM_INFINITY);
    pull_large(consumer);

    /* This event is compressed, if compression is configured. */
    SUCCEEDS(octopus, push_large(producer, &future, error));
    SUCCEEDS(octopus, octopus->future->wait(future, 60000, error));
    octopus->future->release(future);
    pull_large(consumer);

    octopus_event *event = NULL;
    uint64_t count = 0;
    /* The last fetch response may still be in memory. */
    set_limit(address_space() - LARGE);
    SUCCEEDS(octopus, octopus->consumer->seek(consumer, 0, 2, error));
    for (int seconds = 0; (status = octopus->consumer->pull_many(consumer, 1, 1000, &event, &count,
                                                                 &error)) == OCTOPUS_TIMED_OUT;
         seconds++)
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
