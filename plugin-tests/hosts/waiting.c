/*
 * A host whose broker delays its produce response while more events are queued: waiting for the
 * response must use no CPU time.
 *
 *     waiting LIBRARY CONFIG TOPIC
 *
 * Prints the CPU time. Exits with all events in flight, since the response may never arrive.
 */
#include "host.h"

#include <time.h>

static double cpu_seconds(void)
{
    struct timespec time;
    EXPECT(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    EXPECT(argc == 4);
    const octopus_api *octopus = load(argv[1]);
    octopus_driver *driver = make_driver(octopus, argv[2], NULL);
    octopus_topic *topic = NULL;
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(argv[3]), &topic, error));
    octopus_producer *producer = make_producer(octopus, topic);

    /* The first events are sent; the later ones, pushed over two seconds, wait for the response to
     * these. */
    octopus_future *last = NULL;
    double before = cpu_seconds();
    for (int round = 0; round < 100; round++) {
        for (uint64_t number = 0; number < 10; number++) {
            octopus->future->release(last);
            last = push(octopus, producer, number);
        }
        usleep(20 * 1000);
    }
    double used = cpu_seconds() - before;
    EXPECT(octopus->future->wait(last, 0, NULL) == OCTOPUS_TIMED_OUT);
    printf("%.3f s\n", used);
    EXPECT(used < 0.5);
    fflush(stdout);
    _exit(0);
}
