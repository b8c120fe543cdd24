/*
 * Counts the threads and connections of a program that has TOPICS topics of three partitions with
 * one producer each and, if CONSUMERS is not 0, one consumer each: the peak while all are created,
 * the numbers ten seconds later, and those that ten more producers add.
 *
 *     sharing LIBRARY CONFIG TOPIC TOPICS CONSUMERS REPLICAS
 *
 * Prints: peak threads, threads, connections, added threads, added connections.
 */
#include "host.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>

#define MORE_PRODUCERS 10

static long count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    EXPECT(tasks != NULL);
    long found = 0;
    for (struct dirent *task; (task = readdir(tasks));)
        found += task->d_name[0] != '.';
    closedir(tasks);
    return found;
}

static long count_connections(void)
{
    DIR *folder = opendir("/proc/self/fd");
    EXPECT(folder != NULL);
    long found = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        found += getpeername(atoi(entry->d_name), (struct sockaddr *)&address, &size) == 0;
    }
    closedir(folder);
    return found;
}

static atomic_long peak;
static atomic_int is_over;

static void sleep_ms(long milliseconds)
{
    nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000}, NULL);
}

/* Subtracts 1 for the counting thread itself. */
static void *record_peak(void *unused)
{
    for (; !is_over; sleep_ms(5)) {
        long now = count_threads() - 1;
        if (now > peak)
            peak = now;
    }
    return unused;
}

int main(int argc, char **argv)
{
    EXPECT(argc == 7);
    int topics = atoi(argv[4]), consumers = atoi(argv[5]);
    char options[100];
    snprintf(options, sizeof options, "{\"num_partitions\": 3, \"replication_factor\": %s}",
             argv[6]);
    const octopus_api *octopus = load(argv[1]);
    pthread_t watcher;
    EXPECT(pthread_create(&watcher, NULL, record_peak, NULL) == 0);
    octopus_driver *driver = make_driver(octopus, argv[2], NULL);
    octopus_topic **opened = calloc((size_t)topics, sizeof *opened);
    octopus_producer **producers = calloc((size_t)topics + MORE_PRODUCERS, sizeof *producers);
    octopus_consumer **pulling = calloc((size_t)topics, sizeof *pulling);
    EXPECT(opened && producers && pulling);
    for (int number = 0; number < topics; number++) {
        char name[200];
        snprintf(name, sizeof name, "%s-%d", argv[3], number);
        octopus_create_topic_args args;
        memset(&args, 0, sizeof args);
        args.size = sizeof args;
        args.options = text(options);
        SUCCEEDS(octopus, octopus->driver->create_topic(driver, text(name), &args, error));
        SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(name), &opened[number], error));
        producers[number] = make_producer(octopus, opened[number]);
        if (consumers)
            pulling[number] = make_consumer(octopus, opened[number], name);
        deliver(octopus, producers[number], (uint64_t)number);
        if (consumers)
            EXPECT(pull(octopus, pulling[number]) == (uint64_t)number);
    }
    sleep_ms(10 * 1000);
    is_over = 1;
    EXPECT(pthread_join(watcher, NULL) == 0);
    long threads = count_threads(), connections = count_connections();
    for (int number = 0; number < MORE_PRODUCERS; number++) {
        producers[topics + number] = make_producer(octopus, opened[number % topics]);
        deliver(octopus, producers[topics + number], (uint64_t)number);
    }
    octopus_string *description = NULL;
    SUCCEEDS(octopus, octopus->driver->describe(driver, &description, error));
    octopus->string->release(description);
    printf("%ld %ld %ld %ld %ld\n", (long)peak, threads, connections, count_threads() - threads,
           count_connections() - connections);
    for (int number = 0; number < topics + MORE_PRODUCERS; number++)
        octopus->producer->release(producers[number]);
    for (int number = 0; number < topics; number++) {
        octopus->consumer->release(pulling[number]);
        octopus->topic->release(opened[number]);
    }
    octopus->driver->release(driver);
    free(opened);
    free(producers);
    free(pulling);
    return 0;
}
