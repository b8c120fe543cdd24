/*
 * A host with short-lived threads. Each creates a driver, pushes, hands its producer and a future
 * over to the main thread, and ends, pushing once more from the destructor of a thread-local. The
 * main thread then uses the remaining handles. Each event is delivered once.
 *
 *     threads LIBRARY CONFIG TOPIC
 */
#include "host.h"

#include <dirent.h>
#include <pthread.h>
#include <stdint.h>
#include <time.h>

enum { THREADS = 200, AT_ONCE = 10, PUSHES = 4, TIMEOUT_S = 60 };

struct worker {
    uint64_t number;
    octopus_driver *driver;
    octopus_topic *topic;
    octopus_producer *producer;
    octopus_future *handed_over;
};

static const octopus_api *octopus;
static const char *config, *topic_name;
static pthread_key_t key;

/* Runs at the end of a thread, after the destructors of its C++ and Rust thread-locals. Pushes,
 * waits and releases. */
static void on_thread_end(void *context)
{
    struct worker *worker = context;
    deliver(octopus, worker->producer, worker->number * PUSHES + 2);
    octopus->topic->release(worker->topic);
    octopus->driver->release(worker->driver);
}

static void *work(void *context)
{
    struct worker *worker = context;
    EXPECT(pthread_setspecific(key, worker) == 0);
    worker->driver = make_driver(octopus, config, NULL);
    SUCCEEDS(octopus,
             octopus->driver->open_topic(worker->driver, text(topic_name), &worker->topic, error));
    worker->producer = make_producer(octopus, worker->topic);
    deliver(octopus, worker->producer, worker->number * PUSHES);
    worker->handed_over = push(octopus, worker->producer, worker->number * PUSHES + 1);
    return NULL;
}

static void use_remaining(struct worker *worker)
{
    uint64_t id;
    SUCCEEDS(octopus, octopus->future->wait(worker->handed_over, 60000, error));
    SUCCEEDS(octopus, octopus->future->event_id(worker->handed_over, &id, error));
    octopus->future->release(worker->handed_over);
    deliver(octopus, worker->producer, worker->number * PUSHES + 3);
    SUCCEEDS(octopus, octopus->producer->close(worker->producer, 60000, error));
    octopus->producer->release(worker->producer);
}

static int thread_count(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    EXPECT(folder != NULL);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* Waits until the number of threads is constant for a second, since clients start and end threads
 * in the background. */
static int settled_thread_count(void)
{
    const struct timespec moment = {.tv_nsec = 50000000};
    int count = thread_count();
    time_t end = time(NULL) + TIMEOUT_S;
    for (int same = 0; same < 20 && time(NULL) < end;) {
        nanosleep(&moment, NULL);
        int next = thread_count();
        same = next == count ? same + 1 : 0;
        count = next;
    }
    return count;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return fprintf(stderr, "usage: %s LIBRARY CONFIG TOPIC\n", argv[0]), 1;
    config = argv[2];
    topic_name = argv[3];
    EXPECT(pthread_key_create(&key, on_thread_end) == 0);
    octopus = load(argv[1]);
    octopus_driver *driver = make_driver(octopus, config, NULL);
    octopus_topic *topic = make_topic(octopus, driver, topic_name);
    /* The first producer's client outlives it. All threads of a client exist when it has
     * delivered an event. */
    octopus_producer *producer = make_producer(octopus, topic);
    deliver(octopus, producer, THREADS * PUSHES);
    octopus->producer->release(producer);
    int before = settled_thread_count();

    for (uint64_t first = 0; first < THREADS; first += AT_ONCE) {
        struct worker workers[AT_ONCE] = {{0}};
        pthread_t threads[AT_ONCE];
        for (uint64_t at = 0; at < AT_ONCE; at++) {
            workers[at].number = first + at;
            EXPECT(pthread_create(&threads[at], NULL, work, &workers[at]) == 0);
        }
        for (int at = 0; at < AT_ONCE; at++)
            EXPECT(pthread_join(threads[at], NULL) == 0);
        for (int at = 0; at < AT_ONCE; at++)
            use_remaining(&workers[at]);
    }

    static int seen[THREADS * PUSHES + 1];
    octopus_consumer *consumer = make_consumer(octopus, topic, topic_name);
    for (int at = 0; at <= THREADS * PUSHES; at++) {
        uint64_t number = pull(octopus, consumer);
        EXPECT(number <= THREADS * PUSHES && seen[number]++ == 0);
    }
    SUCCEEDS(octopus, octopus->consumer->close(consumer, 60000, error));
    octopus->consumer->release(consumer);

    /* Clients are torn down in the background. All of their threads must end. */
    const struct timespec moment = {.tv_nsec = 20000000};
    for (time_t end = time(NULL) + TIMEOUT_S; thread_count() > before && time(NULL) < end;)
        nanosleep(&moment, NULL);
    EXPECT(thread_count() <= before);
    printf("%d events of %d threads, each once, and no thread is left\n", THREADS * PUSHES,
           THREADS);
    return 0;
}
