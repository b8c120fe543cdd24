/*
 * A host that pushes events and ends, as a script does: it waits for no delivery, and with most
 * WAYs releases nothing.
 *
 *     exiting LIBRARY WAY EVENTS CONFIG TOPIC COUNTER
 *
 * The environment variable PRODUCER_OPTIONS holds the producer's options. The file COUNTER receives
 * 16 bytes: the number of pushes that the plugin accepted, and the number that it rejected. Both
 * are updated at each push, since with some WAYs other threads push until the process ends.
 */
#include "host.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { THREADS = 4, WARM_UP_MS = 60000 };

static const octopus_api *octopus;
static octopus_producer *producer;
static const char *way;
static uint64_t events;

static struct counter {
    atomic_ullong accepted, rejected;
} *counter;

static int is_way(const char *name) { return strcmp(way, name) == 0; }

static octopus_status push_one(octopus_future **future)
{
    octopus_push_args event;
    memset(&event, 0, sizeof event);
    event.size = sizeof event;
    octopus_status status = octopus->producer->push(producer, &event, future, NULL);
    atomic_fetch_add(status == OCTOPUS_OK ? &counter->accepted : &counter->rejected, 1);
    return status;
}

static void push_events(void)
{
    for (uint64_t index = 0; index < events; index++)
        EXPECT(push_one(NULL) == OCTOPUS_OK);
}

static void *push_until_rejected(void *unused)
{
    (void)unused;
    while (push_one(NULL) == OCTOPUS_OK)
        usleep(100);
    return NULL;
}

static void push_at_exit(void)
{
    if (is_way("atexit"))
        push_events();
}

/* ---- callbacks and handlers that end the process --------------------------------------------- */

static void exit_once(void)
{
    static atomic_flag has_exited = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&has_exited))
        exit(0);
    for (;;)
        pause();
}

static void on_complete(void *context, octopus_future *future)
{
    (void)context, (void)future;
    exit_once();
}

/* Runs on the thread that serves the producer's delivery reports. */
static void on_statistics(void *context, octopus_text client, octopus_text json)
{
    (void)context, (void)json;
    if (is_way("statistics") && memchr(client.data, 'p', client.size) &&
        atomic_load(&counter->accepted) >= events)
        exit_once();
}

static void on_signal(int signal)
{
    (void)signal;
    exit(0);
}

/* -------------------------------------------------------------------------------------------- */

static int end(octopus_topic *topic, octopus_driver *driver)
{
    pthread_t threads[THREADS];
    if (is_way("exit"))
        exit(0);
    if (is_way("release")) {
        octopus->producer->release(producer);
        octopus->topic->release(topic);
        octopus->driver->release(driver);
    }
    if (is_way("SIGTERM")) {
        signal(SIGTERM, on_signal);
        raise(SIGTERM);
    }
    if (is_way("threads")) {
        for (int index = 0; index < THREADS; index++)
            EXPECT(pthread_create(&threads[index], NULL, push_until_rejected, NULL) == 0);
        usleep(100000);
    }
    if (is_way("completion")) {
        octopus_completion completion = {.function = on_complete};
        octopus_future *future;
        EXPECT(push_one(&future) == OCTOPUS_OK);
        SUCCEEDS(octopus, octopus->future->on_complete(future, &completion, error));
        push_events();
    }
    while (is_way("completion") || is_way("statistics"))
        pause();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return fprintf(stderr, "usage: %s LIBRARY WAY EVENTS CONFIG TOPIC COUNTER\n", argv[0]), 1;
    way = argv[2];
    events = strtoull(argv[3], NULL, 10);
    int file = open(argv[6], O_RDWR | O_CREAT, 0600);
    EXPECT(file >= 0 && ftruncate(file, sizeof *counter) == 0);
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    EXPECT(counter != MAP_FAILED);

    atexit(push_at_exit);
    octopus = load(argv[1]);
    octopus_host_services services = {.size = sizeof services,
                                      .statistics = {.function = on_statistics}};
    octopus_driver *driver = make_driver(octopus, argv[4], is_way("statistics") ? &services : NULL);
    octopus_topic *topic = NULL;
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(argv[5]), &topic, error));
    octopus_producer_args args = {.size = sizeof args, .options = text(getenv("PRODUCER_OPTIONS"))};
    SUCCEEDS(octopus, octopus->topic->make_producer(topic, &args, &producer, error));
    if (is_way("warm")) {
        octopus_future *first;
        EXPECT(push_one(&first) == OCTOPUS_OK);
        SUCCEEDS(octopus, octopus->future->wait(first, WARM_UP_MS, error));
    }
    push_events();
    return end(topic, driver);
}
