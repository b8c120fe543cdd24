/*
 * A host whose broker answers late, while it has more to send: waiting for the answer takes no processor.
 *
 *     waiting LIBRARY CONFIG TOPIC
 *
 * Prints nothing; ends with everything in flight, since that answer may never come.
 */
#include "host.h"

#include <time.h>

static double processor_seconds(void)
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

    /* The first go out; those that come behind them, for two seconds, wait for the answer. */
    octopus_future *last = NULL;
    double before = processor_seconds();
    for (int round = 0; round < 100; round++) {
        for (uint64_t number = 0; number < 10; number++) {
            octopus->future->release(last);
            last = push(octopus, producer, number);
        }
        usleep(20 * 1000);
    }
    double used = processor_seconds() - before;
    EXPECT(octopus->future->wait(last, 0, NULL) == OCTOPUS_TIMED_OUT);
    printf("%.3f s\n", used);
    EXPECT(used < 0.5);
    fflush(stdout);
    _exit(0);
}
