/*
 * A host that reads a topic of large events and keeps one of every EVERY. Its memory must grow only
 * by the kept events and the configured prefetch, not by all events that it read.
 *
 *     keeping LIBRARY CONFIG TOPIC EVENTS EVERY LIMIT
 *
 * Prints the growth in KiB. LIMIT is the allowed growth in KiB.
 */
#include "host.h"

/* Returns the resident memory in KiB, from the second field of proc_pid_statm(5), which counts
 * pages. */
static long resident(void)
{
    long all = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    EXPECT(file && fscanf(file, "%ld %ld", &all, &pages) == 2);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv)
{
    EXPECT(argc == 7);
    const octopus_api *octopus = load(argv[1]);
    uint64_t events = strtoull(argv[4], NULL, 10), every = strtoull(argv[5], NULL, 10);
    octopus_driver *driver = make_driver(octopus, argv[2], NULL);
    octopus_topic *topic = NULL;
    SUCCEEDS(octopus, octopus->driver->open_topic(driver, text(argv[3]), &topic, error));
    octopus_consumer *consumer = make_consumer(octopus, topic, argv[3]);
    octopus_event **kept = calloc(events / every + 1, sizeof *kept);
    EXPECT(kept != NULL);

    long before = resident();
    for (uint64_t number = 0; number < events; number++) {
        octopus_event *event = NULL;
        uint64_t count = 0;
        SUCCEEDS(octopus, octopus->consumer->pull_many(consumer, 1, 60000, &event, &count, error));
        if (number % every == 0)
            kept[number / every] = event;
        else
            octopus->event->release(event);
    }
    long growth = resident() - before;
    printf("%ld\n", growth);
    EXPECT(growth < strtol(argv[6], NULL, 10));

    for (uint64_t number = 0; number < events; number += every) {
        octopus_event_view view;
        memset(&view, 0, sizeof view);
        view.size = sizeof view;
        SUCCEEDS(octopus, octopus->event->view(kept[number / every], &view, error));
        EXPECT(view.id == number && view.data.size > 0 &&
               view.data.data[view.data.size - 1] == (uint8_t)number);
        octopus->event->release(kept[number / every]);
    }
    free(kept);
    octopus->consumer->release(consumer);
    octopus->topic->release(topic);
    octopus->driver->release(driver);
    return 0;
}
